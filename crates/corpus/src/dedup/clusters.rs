//! Clusters of documents that share a band, by union-find.
//!
//! Unions by size, in a fixed order: the survivor of a cluster is the one that datatrove keeps, given the
//! same order of documents.

/// Parents of documents by number.
pub struct Clusters {
    parents: Vec<u32>,
    sizes: Vec<u32>,
}

impl Clusters {
    /// Every document in a cluster of its own.
    pub fn new(documents: usize) -> Clusters {
        Clusters { parents: (0..documents as u32).collect(), sizes: vec![1; documents] }
    }

    /// The representative of a document's cluster.
    pub fn root(&mut self, document: u32) -> u32 {
        let mut at = document;
        while self.parents[at as usize] != at {
            let parent = self.parents[at as usize];
            self.parents[at as usize] = self.parents[parent as usize];
            at = parent;
        }
        at
    }

    /// Makes one cluster of two; of equally large ones that of `a` gives the survivor.
    pub fn join(&mut self, a: u32, b: u32) {
        let (mut a, mut b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        if self.sizes[a as usize] < self.sizes[b as usize] {
            std::mem::swap(&mut a, &mut b);
        }
        self.parents[b as usize] = a;
        self.sizes[a as usize] += self.sizes[b as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_cluster_gives_the_survivor() {
        let mut clusters = Clusters::new(5);
        clusters.join(3, 1);
        clusters.join(0, 3);
        assert_eq!([0, 1, 2, 3, 4].map(|document| clusters.root(document)), [3, 3, 2, 3, 4]);
    }
}

//! Boosted trees: read from the bytes that `tools/train_extraction.py` writes, and walked.

/// Nodes of one array; children follow their parents.
pub struct Forest {
    features: usize,
    roots: Vec<u32>,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    /// [`LEAF`] makes `value` the tree's answer.
    feature: u16,
    left: u32,
    right: u32,
    /// A row goes left where its feature is not above it.
    value: f32,
}

const LEAF: u16 = u16::MAX;
const NODE_BYTES: usize = 14;

impl Forest {
    /// Reads little-endian: features (u32), trees (u32), their roots (u32 each), nodes (u32), then for each
    /// its feature (u16), left, right (u32) and value (f32). `None` where the bytes are no forest.
    pub fn read(bytes: &[u8]) -> Option<Forest> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (features, trees) = (word(0)? as usize, word(4)? as usize);
        let roots: Vec<u32> = (0..trees).map(|tree| word(8 + tree * 4)).collect::<Option<_>>()?;
        let start = 8 + trees * 4;
        let count = word(start)? as usize;
        let body = bytes.get(start + 4..)?;
        if body.len() != count * NODE_BYTES || roots.iter().any(|&root| root as usize >= count) {
            return None;
        }
        let mut nodes = Vec::with_capacity(count);
        for (index, node) in body.chunks_exact(NODE_BYTES).enumerate() {
            let feature = u16::from_le_bytes([node[0], node[1]]);
            let word = |at: usize| [node[at], node[at + 1], node[at + 2], node[at + 3]];
            let (left, right) = (u32::from_le_bytes(word(2)), u32::from_le_bytes(word(6)));
            let follows = |child: u32| child as usize > index && (child as usize) < count;
            if feature != LEAF && !(usize::from(feature) < features && follows(left) && follows(right)) {
                return None;
            }
            nodes.push(Node { feature, left, right, value: f32::from_le_bytes(word(10)) });
        }
        Some(Forest { features, roots, nodes })
    }

    /// The probability that the trees give a row; one of another width has none.
    pub fn probability(&self, row: &[f32]) -> Option<f32> {
        if row.len() != self.features {
            return None;
        }
        let mut sum = 0f32;
        for &root in &self.roots {
            let mut node = self.nodes[root as usize];
            while node.feature != LEAF {
                let next = if row[usize::from(node.feature)] <= node.value { node.left } else { node.right };
                node = self.nodes[next as usize];
            }
            sum += node.value;
        }
        Some(1.0 / (1.0 + (-sum).exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(nodes: &[(u16, u32, u32, f32)]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [2u32, 1, 0, nodes.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        for &(feature, left, right, value) in nodes {
            out.extend(feature.to_le_bytes());
            out.extend(left.to_le_bytes());
            out.extend(right.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        out
    }

    #[test]
    fn a_stump_and_damaged_ones() {
        let good = bytes(&[(1, 1, 2, 0.5), (LEAF, 0, 0, -2.0), (LEAF, 0, 0, 2.0)]);
        let forest = Forest::read(&good).unwrap();
        assert!(forest.probability(&[9.0, 0.5]).unwrap() < 0.2);
        assert!(forest.probability(&[9.0, 0.6]).unwrap() > 0.8);
        assert_eq!(forest.probability(&[1.0]), None);
        for cut in 0..good.len() {
            assert!(Forest::read(&good[..cut]).is_none(), "{cut}");
        }
        assert!(Forest::read(&bytes(&[(0, 0, 1, 0.5), (LEAF, 0, 0, 1.0)])).is_none(), "a cycle");
        assert!(Forest::read(&bytes(&[(7, 1, 1, 0.5), (LEAF, 0, 0, 1.0)])).is_none(), "no such feature");
    }
}

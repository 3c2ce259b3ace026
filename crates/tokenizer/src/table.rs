//! Byte strings by id, in one allocation: a vocabulary of 256,000 tokens takes 3 MB instead of 15.

/// Byte strings by id; ids without one have an empty string.
#[derive(Clone, Debug, Default)]
pub struct Table {
    bytes: Vec<u8>,
    /// End of each string in `bytes`. The files that strings come from are below 4 GB.
    ends: Vec<u32>,
}

impl Table {
    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string of an id; empty for an id beyond the last.
    pub fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..end as usize]
    }

    /// Each string, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).map(|id| self.get(id))
    }
}

impl<B: AsRef<[u8]>> FromIterator<B> for Table {
    fn from_iter<I: IntoIterator<Item = B>>(strings: I) -> Table {
        let mut table = Table::default();
        for string in strings {
            table.bytes.extend_from_slice(string.as_ref());
            table.ends.push(table.bytes.len() as u32);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_given_back() {
        let table: Table = ["", "a", "", "bc"].into_iter().collect();
        assert_eq!(table.iter().collect::<Vec<_>>(), [&b""[..], b"a", b"", b"bc"]);
        assert_eq!((table.len(), table.get(9)), (4, &b""[..]));
        assert_eq!(Table::default().len(), 0);
    }
}

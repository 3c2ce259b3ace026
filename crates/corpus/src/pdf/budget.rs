//! What a PDF may cost: unpacked bytes, text and operators.

/// What a file may still cost.
pub struct Budget {
    pub bytes: usize,
    pub operators: usize,
}

impl Budget {
    /// Takes what is unpacked or kept.
    pub fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or("decompresses to more than a document can have")?;
        Ok(())
    }

    /// Takes an operator that shows or moves.
    pub fn take_operator(&mut self) -> Result<(), String> {
        self.operators = self.operators.checked_sub(1).ok_or("has too many drawing operators")?;
        Ok(())
    }
}

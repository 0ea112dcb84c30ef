//! Two slices that are read as one.

/// Two slices that are read as one sequence of bytes: writev(2) sends them without a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slices<'a> {
    first: &'a [u8],
    second: &'a [u8],
}

impl<'a> Slices<'a> {
    /// No bytes.
    pub const EMPTY: Self = Self::new(&[], &[]);

    /// `first`, then `second`.
    #[must_use]
    pub const fn new(first: &'a [u8], second: &'a [u8]) -> Self {
        Self { first, second }
    }

    /// Number of bytes in both slices.
    #[must_use]
    pub const fn len(self) -> usize {
        self.first.len() + self.second.len()
    }

    /// True if neither slice holds a byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }

    /// The bytes after the first `n`.
    ///
    /// # Panics
    /// If there are fewer than `n`.
    #[must_use]
    pub fn skip(self, n: usize) -> Self {
        match n.checked_sub(self.first.len()) {
            None => Self::new(&self.first[n..], self.second),
            Some(n) => Self::new(&self.second[n..], &[]),
        }
    }

    /// The first `n` bytes, or all if there are fewer.
    #[must_use]
    pub fn take(self, n: usize) -> Self {
        let in_first = n.min(self.first.len());
        let in_second = (n - in_first).min(self.second.len());
        Self::new(&self.first[..in_first], &self.second[..in_second])
    }

    /// The two slices, in order.
    #[must_use]
    pub const fn parts(self) -> [&'a [u8]; 2] {
        [self.first, self.second]
    }

    /// A copy in one piece.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.parts().concat()
    }
}

impl<'a> From<&'a [u8]> for Slices<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn two_slices_are_cut_as_one_is(first: Vec<u8>, second: Vec<u8>, at in 0..200usize) {
            let slices = Slices::new(&first, &second);
            let whole = [first.clone(), second.clone()].concat();
            let at = at.min(whole.len());
            prop_assert_eq!(slices.take(at).to_vec(), &whole[..at]);
            prop_assert_eq!(slices.skip(at).to_vec(), &whole[at..]);
            prop_assert_eq!((slices.len(), slices.is_empty()), (whole.len(), whole.is_empty()));
        }
    }
}

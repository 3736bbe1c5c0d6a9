//! Token sequences side by side, without padding.

/// `ids [t]` of all sequences, one after the other; sequence i is `ids[cu_seqlens[i]..cu_seqlens[i + 1]]`.
///
/// Every dense layer is one product over the t tokens; only attention knows where sequences end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ids: Vec<u32>,
    /// `[b + 1]`, begins with 0; "cumulative sequence lengths".
    cu_seqlens: Vec<usize>,
}

impl Batch {
    /// Packs sequences of token ids in their order.
    pub fn new<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>) -> Self {
        let mut batch = Batch { ids: Vec::new(), cu_seqlens: vec![0] };
        for sequence in sequences {
            batch.push(sequence.as_ref());
        }
        batch
    }

    /// Adds one sequence.
    pub fn push(&mut self, sequence: &[u32]) {
        self.push_ids(sequence.iter().copied());
    }

    /// Adds one sequence that is stored in another way.
    pub fn push_ids(&mut self, sequence: impl IntoIterator<Item = u32>) {
        if self.cu_seqlens.is_empty() {
            self.cu_seqlens.push(0);
        }
        self.ids.extend(sequence);
        self.cu_seqlens.push(self.ids.len());
    }

    /// All token ids `[t]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where sequences begin and end, `[b + 1]`.
    pub fn cu_seqlens(&self) -> &[usize] {
        &self.cu_seqlens
    }

    /// Number of sequences b.
    pub fn len(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens t.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

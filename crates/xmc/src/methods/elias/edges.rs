//! Which labels does a cluster lead to, and how strongly? The graph of a finished model, used from the map as it is.
//!
//! ```text
//! 0   magic "XMCEDGES"
//! 8   u32 version, u32 byte-order mark 0x01020304
//! 16  u64 bytes of the whole file
//! 24  u64 clusters C
//! 32  u64 labels L
//! 40  u64 edges E
//! 48  u64 zero
//! 56  u64 xxh3 of bytes 0..56
//! 64  arrays, each at a multiple of 64:
//!     where the edges of a cluster begin u64 [C + 1], labels u32 [E], log s_cl f32 [E]
//! ```
//! Numbers are little-endian. The edges of a cluster stand by falling log s_cl, equal ones by rising label: a search
//! reads only the beginning of each list. Opening reads everything once, so that no damage can lead a search astray.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::Buffer;
use xmc_data::buffer::map_file;
use xmc_data::formats::atomic::write_atomically;
use xmc_data::topk::by_score;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"XMCEDGES";
const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
const ALIGN: u64 = 64;
const HEADER: usize = 64;

/// Edges from clusters to labels, best first.
#[derive(Clone, Debug)]
pub struct Edges {
    labels: usize,
    /// `[C + 1]`
    starts: Buffer<u64>,
    /// `[E]`
    ids: Buffer<u32>,
    /// `[E]` log s_cl
    values: Buffer<f32>,
}

impl Edges {
    /// Sorts the edges of clusters: those of cluster c are `starts[c]..starts[c + 1]`, to `ids` with the values log s_cl.
    ///
    /// Ids of `num_labels` or more lead nowhere (graphs of the original are padded so), and are left out.
    pub fn new(num_labels: usize, starts: &[usize], ids: &[u32], values: &[f32]) -> Result<Self> {
        let ends = starts.last().copied().unwrap_or(0);
        if !starts.is_sorted() || starts.first() != Some(&0) || ends != ids.len() || ids.len() != values.len()
        {
            let (ids, values) = (ids.len(), values.len());
            return Err(Error::Mismatch(format!(
                "clusters with {ends} edges, {ids} labels and {values} values do not fit each other"
            )));
        }
        let lists: Vec<Vec<(u32, f32)>> = (1..starts.len())
            .into_par_iter()
            .map(|c| {
                let range = starts[c - 1]..starts[c];
                let edges = ids[range.clone()].iter().copied().zip(values[range].iter().copied());
                let mut list: Vec<_> = edges.filter(|&(id, _)| (id as usize) < num_labels).collect();
                list.sort_unstable_by(by_score);
                list
            })
            .collect();
        let mut sorted = vec![0];
        sorted.extend(lists.iter().scan(0, |end, list| {
            *end += list.len() as u64;
            Some(*end)
        }));
        let (ids, values): (Vec<u32>, Vec<f32>) = lists.into_iter().flatten().unzip();
        let edges =
            Edges { labels: num_labels, starts: sorted.into(), ids: ids.into(), values: values.into() };
        edges.check().map_err(Error::Mismatch)?;
        Ok(edges)
    }

    /// Number of clusters C.
    pub fn clusters(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of labels L.
    pub fn num_labels(&self) -> usize {
        self.labels
    }

    /// Number of edges E.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of all arrays.
    pub fn bytes(&self) -> u64 {
        (8 * self.starts.len() + 8 * self.ids.len()) as u64
    }

    /// Labels of the edges of `cluster`, best first, and their log s_cl.
    pub fn of(&self, cluster: usize) -> (&[u32], &[f32]) {
        let range = self.starts[cluster] as usize..self.starts[cluster + 1] as usize;
        (&self.ids[range.clone()], &self.values[range])
    }

    /// Edges that lead to each label, `[L]`.
    pub fn per_label(&self) -> Vec<u32> {
        let mut counts = vec![0; self.labels];
        self.ids.iter().for_each(|&id| counts[id as usize] += 1);
        counts
    }

    /// Writes these edges; the file appears complete or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let places = Places::of(self.clusters() as u64, self.len() as u64)
            .ok_or_else(|| Error::file(path, "no file can hold so many edges"))?;
        let io = || xmc_data::Error::io(path);
        Ok(write_atomically(path, |file| {
            file.write_all(&self.header(&places)).map_err(io())?;
            let mut put = |place: u64, bytes: &[u8]| {
                file.seek(SeekFrom::Start(place)).and_then(|_| file.write_all(bytes)).map_err(io())
            };
            put(places.starts, bytemuck::cast_slice(&self.starts))?;
            put(places.ids, bytemuck::cast_slice(&self.ids))?;
            put(places.values, bytemuck::cast_slice(&self.values))
        })?)
    }

    fn header(&self, places: &Places) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(BYTE_ORDER.to_le_bytes());
        for word in [places.end, self.clusters() as u64, self.labels as u64, self.len() as u64, 0] {
            header.extend(word.to_le_bytes());
        }
        header.extend(xxh3_64(&header).to_le_bytes());
        header
    }

    /// Maps a file and looks through it.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let wrong = |problem: String| Err(Error::file(path, problem));
        if !map.starts_with(MAGIC) {
            return wrong("not a file of edges of xmc (its first bytes are others)".to_owned());
        }
        let word =
            |at: usize| map.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let Some(header) = map.get(..HEADER) else {
            return wrong(format!("truncated: {} bytes, the header has {HEADER}", map.len()));
        };
        if word(8) as u32 != VERSION {
            let v = word(8) as u32;
            return wrong(format!(
                "written in format {v}, this program reads {VERSION}: use the xmc that wrote it"
            ));
        }
        if word(8) >> 32 != u64::from(BYTE_ORDER) || word(56) != xxh3_64(&header[..56]) {
            return wrong(
                "damaged header: its checksum does not fit; copy or write the file again".to_owned(),
            );
        }
        let (clusters, labels, edges) = (word(24), word(32), word(40));
        let Some(places) = Places::of(clusters, edges).filter(|places| places.end == word(16)) else {
            return wrong("damaged header: its sizes do not fit each other".to_owned());
        };
        if word(16) != map.len() as u64 {
            return wrong(format!("truncated: {} bytes, expected {}", map.len(), word(16)));
        }
        let edges = edges as usize;
        let edges = Edges {
            labels: labels as usize,
            starts: Buffer::mapped(&map, places.starts as usize, clusters as usize + 1, path)?,
            ids: Buffer::mapped(&map, places.ids as usize, edges, path)?,
            values: Buffer::mapped(&map, places.values as usize, edges, path)?,
        };
        match edges.check() {
            Ok(()) => Ok(edges),
            Err(problem) => wrong(format!("damaged: {problem}; copy or write the file again")),
        }
    }

    /// Lists that follow each other, each by falling log-probability, to labels that there are.
    fn check(&self) -> std::result::Result<(), String> {
        if self.starts.first() != Some(&0)
            || !self.starts.is_sorted()
            || self.starts.last() != Some(&(self.ids.len() as u64))
        {
            return Err("the edges of the clusters do not follow each other".to_owned());
        }
        (0..self.clusters()).into_par_iter().try_for_each(|c| {
            let (ids, values) = self.of(c);
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.labels) {
                return Err(format!("cluster {c} leads to label {id} of {}", self.labels));
            }
            // NaN compares false.
            let logs = values.iter().all(|&v| v <= 0.0 && v.is_finite());
            if !logs || !values.is_sorted_by(|a, b| a >= b) {
                return Err(format!("edges of cluster {c} are not falling logarithms of probabilities"));
            }
            Ok(())
        })
    }
}

/// Where the arrays begin.
struct Places {
    starts: u64,
    ids: u64,
    values: u64,
    end: u64,
}

impl Places {
    /// None if the sizes are beyond any file.
    fn of(clusters: u64, edges: u64) -> Option<Places> {
        let mut end = HEADER as u64;
        let mut place = |len: u64, width: u64| {
            let start = end.next_multiple_of(ALIGN);
            end = len.checked_mul(width)?.checked_add(start)?;
            (end < 1 << 60).then_some(start)
        };
        let (starts, ids, values) = (place(clusters.checked_add(1)?, 8)?, place(edges, 4)?, place(edges, 4)?);
        Some(Places { starts, ids, values, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges() -> Edges {
        let ids = [0, 1, 2, 9, 2, 4];
        Edges::new(5, &[0, 3, 3, 6], &ids, &[-2.0, -0.5, -2.0, 0.0, -1.0, 0.0]).unwrap()
    }

    #[test]
    fn lists_are_sorted_and_pads_are_left_out() {
        let edges = edges();
        assert_eq!((edges.clusters(), edges.num_labels(), edges.len()), (3, 5, 5));
        assert_eq!(edges.of(0), (&[1, 0, 2][..], &[-0.5, -2.0, -2.0][..]));
        assert_eq!(edges.of(1), (&[][..], &[][..]));
        assert_eq!(edges.of(2), (&[4, 2][..], &[0.0, -1.0][..]));
        assert_eq!(edges.per_label(), [1, 1, 2, 0, 1]);
    }

    #[test]
    fn values_that_are_no_logarithms_of_probabilities_are_refused() {
        for value in [0.1, f32::NAN, f32::NEG_INFINITY] {
            assert!(Edges::new(2, &[0, 1], &[0], &[value]).is_err(), "{value}");
        }
        assert!(Edges::new(2, &[0, 2], &[0], &[0.0]).is_err());
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edges");
        edges().save(&path).unwrap();
        let opened = Edges::open(&path).unwrap();
        for c in 0..3 {
            assert_eq!(opened.of(c), edges().of(c));
        }
        let good = std::fs::read(&path).unwrap();
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Edges::open(&path).unwrap_err().to_string()
        };
        assert!(message(&good[..40]).contains("truncated"));
        assert!(message(&good[..good.len() - 1]).contains("truncated"));
        assert!(message(b"XMCLABEM").contains("not a file of edges"));
        let changed = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            message(&bytes)
        };
        assert!(changed(8).contains("written in format"));
        assert!(changed(24).contains("damaged header"));
        // Where lists begin, a label, a value.
        assert!(changed(64 + 8).contains("do not follow"), "{}", changed(64 + 8));
        assert!(changed(128).contains("leads to label"));
        assert!(changed(192 + 3).contains("not falling logarithms"));
    }
}

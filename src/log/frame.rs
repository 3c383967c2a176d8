//! The frame of zstd around a segment, looked at without unpacking it: from the length of each block
//! follows where the file must end. A file that is empty, cut off or longer does not fit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The bytes of the magic, of a descriptor without any field, of an empty block and of the checksum.
const BYTES_MIN: u64 = 12;

pub(super) const EMPTY: &str = "it is empty";

const CUT_OFF: &str = "it is cut off";
const NOT_A_FRAME: &str = "it is not a frame of zstd with a checksum";

/// Returns what is wrong with the size of a file that holds one frame with a checksum, and with what
/// the frame says of itself. Reads 3 bytes for each 128 KiB that it unpacks to.
pub(super) fn fault(file: &File) -> io::Result<Option<&'static str>> {
    let bytes = file.metadata()?.len();
    if bytes < BYTES_MIN {
        return Ok(Some(if bytes == 0 { EMPTY } else { CUT_OFF }));
    }
    let mut head = [0; 5];
    file.read_exact_at(&mut head, 0)?;
    let [magic @ .., descriptor] = head;
    let Some(fields) = fields_bytes(descriptor).filter(|_| magic == MAGIC) else {
        return Ok(Some(NOT_A_FRAME));
    };
    let mut at = head.len() as u64 + fields;
    loop {
        let mut block = [0; 4];
        let Some(of_block) = block.first_chunk_mut::<3>().filter(|_| at + 3 <= bytes) else {
            return Ok(Some(CUT_OFF));
        };
        file.read_exact_at(of_block, at)?;
        let block = u32::from_le_bytes(block);
        let content = match (block >> 1) & 3 {
            // One byte that is repeated.
            1 => 1,
            0 | 2 => u64::from(block >> 3),
            _ => return Ok(Some(NOT_A_FRAME)),
        };
        at += 3 + content;
        if block & 1 == 1 {
            break;
        }
    }
    // The checksum comes last.
    Ok(match (at + 4).cmp(&bytes) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(CUT_OFF),
        std::cmp::Ordering::Less => Some("it goes on after its end"),
    })
}

/// Returns the bytes of the fields between the descriptor of a frame and its first block; `None` if
/// it has no checksum, or a bit that no version uses.
fn fields_bytes(descriptor: u8) -> Option<u64> {
    let is_single = descriptor & 0x20 != 0;
    let window = u64::from(!is_single);
    let dictionary = match descriptor & 3 {
        3 => 4,
        bytes => u64::from(bytes),
    };
    let size = match descriptor >> 6 {
        0 => u64::from(is_single),
        flag => 1 << flag,
    };
    (descriptor & 0x0c == 0x04).then_some(window + dictionary + size)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn fault_of(bytes: &[u8]) -> Option<&'static str> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        fault(&file).unwrap()
    }

    fn packed(content: &[u8], has_checksum: bool) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(has_checksum).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_frame_fits_its_file_only_if_that_is_whole() {
        // Several blocks, one that repeats a byte, one that cannot be packed, and none.
        let mixed: Vec<u8> =
            (0..400_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for content in [&mixed[..], &vec![7; 300_000], b"{}\n", b""] {
            let whole = packed(content, true);
            assert_eq!(fault_of(&whole), None, "{}", content.len());
            for length in [0, 1, 4, 5, 11, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
                assert!(fault_of(&whole[..length.min(whole.len() - 1)]).is_some(), "{length}");
            }
            let longer = [&whole[..], b"x"].concat();
            assert_eq!(fault_of(&longer), Some("it goes on after its end"));
            // One of nothing is shorter than any with a checksum.
            let expected = if content.is_empty() { CUT_OFF } else { NOT_A_FRAME };
            assert_eq!(fault_of(&packed(content, false)), Some(expected));
        }
        assert_eq!(fault_of(b""), Some(EMPTY));
        assert_eq!(fault_of(&[0; 4096]), Some(NOT_A_FRAME));
    }
}

//! Lower-case hexadecimal, over bytes: no `from_str_radix`, which accepts a `+`, and no `String`.

const EACH: u64 = 0x0101_0101_0101_0101;

/// The values of `2 * N` lower-case hex digits; `None` when the length or a digit is wrong.
#[inline]
pub(crate) fn decode<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    if hex.len() != 2 * N {
        return None;
    }
    // Without a branch for each digit: what is no digit shows at the end.
    let (mut bytes, mut wrong) = ([0; N], 0);
    let (words, few) = hex.as_chunks();
    let (fours, rest) = bytes.as_chunks_mut();
    for (four, word) in fours.iter_mut().zip(words) {
        *four = decode_four(word, &mut wrong);
    }
    if !rest.is_empty() {
        let mut word = [b'0'; 8];
        word[..few.len()].copy_from_slice(few);
        rest.copy_from_slice(&decode_four(&word, &mut wrong)[..rest.len()]);
    }
    (wrong == 0).then_some(bytes)
}

/// Four bytes, all at once in one word; leaves bits in `wrong` when they were no digits.
#[inline]
fn decode_four(digits: &[u8; 8], wrong: &mut u64) -> [u8; 4] {
    let digits = u64::from_le_bytes(*digits);
    let values = (digits & (0x0f * EACH)) + 9 * (digits >> 6 & EACH);
    *wrong |= (write(values) ^ digits) | (values & (0xf0 * EACH));
    let bytes = (values << 4 | values >> 8) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes >> 8 | bytes) & 0x0000_ffff_0000_ffff;
    ((pairs >> 16 | pairs) as u32).to_le_bytes()
}

/// The digits of eight values.
#[inline]
fn write(values: u64) -> u64 {
    let is_letter = (values + 6 * EACH) >> 4 & EACH;
    // A letter is further from its value than a decimal digit. (All bits of a byte out of its last one, which processors do
    // for several words at once, as they cannot multiply.)
    let letters = (is_letter << 8).wrapping_sub(is_letter);
    values + u64::from(b'0') * EACH + (letters & (u64::from(b'a' - b'9' - 1) * EACH))
}

/// Writes two digits for each byte; `out` is exactly twice as long.
#[inline]
pub(crate) fn encode(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), 2 * bytes.len());
    let (fours, few) = bytes.as_chunks();
    let (words, rest) = out.as_chunks_mut();
    for (four, word) in fours.iter().zip(words) {
        *word = encode_four(*four);
    }
    if !few.is_empty() {
        let mut four = [0; 4];
        four[..few.len()].copy_from_slice(few);
        rest.copy_from_slice(&encode_four(four)[..2 * few.len()]);
    }
}

/// Eight digits, all at once in one word.
#[inline]
fn encode_four(bytes: [u8; 4]) -> [u8; 8] {
    let bytes = u64::from(u32::from_le_bytes(bytes));
    let pairs = (bytes | bytes << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    write((bytes >> 4 | bytes << 8) & (0x0f * EACH)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_and_read_back_and_nothing_else_is_read() {
        for byte in 0..=u8::MAX {
            let mut digits = [0; 2];
            encode(&[byte], &mut digits);
            assert_eq!(std::str::from_utf8(&digits).unwrap(), format!("{byte:02x}"));
            assert_eq!(decode(&digits), Some([byte]));
            let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            assert_eq!(
                (decode::<1>(&[byte, b'0']).is_some(), decode::<1>(&[b'0', byte]).is_some()),
                (is_digit, is_digit)
            );
        }
    }

    #[test]
    fn a_byte_that_is_no_digit_is_found_wherever_it_stands() {
        let hex = *b"0123456789abcdef09af";
        let bytes = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x09, 0xaf];
        assert_eq!(decode(&hex), Some(bytes));
        for (at, byte) in (0..hex.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
            let mut changed = hex;
            changed[at] = byte;
            let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            assert_eq!(decode::<10>(&changed).is_some(), is_digit, "{byte} at {at}");
        }
    }
}

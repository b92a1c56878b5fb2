//! Lower-case hexadecimal, over bytes: no `from_str_radix`, which accepts a `+`, and no `String`.

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
        word[8 - few.len()..].copy_from_slice(few);
        rest.copy_from_slice(&decode_four(&word, &mut wrong)[4 - rest.len()..]);
    }
    (wrong == 0).then_some(bytes)
}

/// Four bytes, all at once in one word; leaves bits in `wrong` when they were no digits.
#[inline]
fn decode_four(digits: &[u8; 8], wrong: &mut u64) -> [u8; 4] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_be_bytes(*digits);
    let values = (digits & (0x0f * EACH)) + 9 * (digits >> 6 & EACH);
    // Who was a digit is one again when it is written: a letter is further from its value than a decimal digit.
    let is_letter = (values + 6 * EACH) >> 4 & EACH;
    let written = values + u64::from(b'0') * EACH + u64::from(b'a' - b'9' - 1) * is_letter;
    *wrong |= (written ^ digits) | (values & (0xf0 * EACH));
    let bytes = (values >> 4 | values) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes >> 8 | bytes) & 0x0000_ffff_0000_ffff;
    ((pairs >> 16 | pairs) as u32).to_be_bytes()
}

/// Writes two digits for each byte; `out` is exactly twice as long.
#[inline]
pub(crate) fn encode(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), 2 * bytes.len());
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
}

/// The two digits of each byte.
static PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let (mut pairs, mut byte) = ([[0; 2]; 256], 0);
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0x0f]];
        byte += 1;
    }
    pairs
};

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

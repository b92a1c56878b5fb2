//! Lower-case hexadecimal, over bytes: no `from_str_radix`, which accepts a `+`, and no `String`.

/// The values of `2 * N` lower-case hex digits; `None` when the length or a digit is wrong.
#[inline]
pub(crate) fn decode<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    if hex.len() != 2 * N {
        return None;
    }
    // Without a branch for each digit, so that the compiler may take many at once.
    let (mut bytes, mut seen) = ([0; N], 0);
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        let (high, low) = (digit(pair[0]), digit(pair[1]));
        seen |= high | low;
        *byte = (high << 4) | low;
    }
    (seen < 0x10).then_some(bytes)
}

/// Writes two digits for each byte; `out` is exactly twice as long.
#[inline]
pub(crate) fn encode(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), 2 * bytes.len());
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = letter(byte >> 4);
        pair[1] = letter(byte & 0x0f);
    }
}

#[inline]
fn letter(digit: u8) -> u8 {
    digit + if digit < 10 { b'0' } else { b'a' - 10 }
}

/// The value of a digit, or more than any digit has.
#[inline]
fn digit(byte: u8) -> u8 {
    let (decimal, letter) = (byte.wrapping_sub(b'0'), byte.wrapping_sub(b'a'));
    let letter = if letter < 6 { letter + 10 } else { 0xf0 };
    if decimal < 10 { decimal } else { letter }
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
}

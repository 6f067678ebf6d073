//! Quantities as Kubernetes writes them: `500m`, `2`, `1.5`, `10Gi`, `512M`, `1e3`.
//!
//! A quantity that does not parse is answered by the API server with a bare `400` that names no field, so it is
//! parsed here first.

use std::fmt;
use std::str::FromStr;
/// A quantity that is not negative; keeps the text it was written as, which is what goes into a manifest.
#[derive(Clone, Debug, Eq)]
pub(crate) struct Quantity {
    text: String,
    /// Thousandths, rounded up as Kubernetes does.
    milli: u128,
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a quantity such as `500m`, `2`, `1.5` or `10Gi`")]
pub(crate) struct QuantityError(String);

/// Suffixes with the power of ten of one unit in thousandths, or of two for the binary ones.
const DECIMAL: [(&str, i32); 10] =
    [("n", -6), ("u", -3), ("m", 0), ("", 3), ("k", 6), ("M", 9), ("G", 12), ("T", 15), ("P", 18), ("E", 21)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
/// More digits than any real amount has; keeps the arithmetic inside `u128`.
const MAX_DIGITS: usize = 15;

impl Quantity {
    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        let milli = parse_milli(text).ok_or_else(|| QuantityError(text.to_owned()))?;
        Ok(Quantity { text: text.to_owned(), milli })
    }

    /// Whether it is a whole number, as GPUs must be.
    #[cfg_attr(not(any(feature = "kubernetes", test)), expect(dead_code, reason = "pods ask for GPUs so"))]
    pub(crate) fn is_whole(&self) -> bool {
        self.milli.is_multiple_of(1000)
    }

    /// Whole mebibytes, rounded up.
    pub(crate) fn mib(&self) -> u64 {
        u64::try_from(self.milli.div_ceil(1000 << 20)).unwrap_or(u64::MAX)
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of CPUs are small")]
    pub(crate) fn to_f64(&self) -> f64 {
        self.milli as f64 / 1000.0
    }

    /// As it was written.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only manifests repeat it"))]
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// An amount of memory with a unit, `10Gi` or `500M`, in whole mebibytes; a number alone would be bytes, which nobody
/// means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub mib: u64,
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Memory, String> {
        let mib = Quantity::parse(text).map(|quantity| quantity.mib()).unwrap_or_default();
        if mib == 0 || !text.ends_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(format!("`{text}` is not an amount of memory with a unit, such as 10Gi or 500M"));
        }
        Ok(Memory { mib })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mib {
            mib if mib.is_multiple_of(1024) => write!(f, "{}Gi", mib / 1024),
            mib => write!(f, "{mib}Mi"),
        }
    }
}

/// `1Gi` equals `1024Mi`.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.milli.cmp(&other.milli)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_milli(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > MAX_DIGITS || fraction.contains('.') {
        return None;
    }
    let digits: u128 = digits.parse().ok()?;
    let decimals = i32::try_from(fraction.len()).ok()?;
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        let scaled = digits.checked_mul(1000)?.checked_mul(1 << power)?;
        return scale(scaled, -decimals);
    }
    let power = match DECIMAL.iter().find(|(name, _)| *name == suffix) {
        Some((_, power)) => *power,
        None => suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?.checked_add(3)?,
    };
    scale(digits, power.checked_sub(decimals)?)
}

/// Returns `number * 10^power`, rounded up.
fn scale(number: u128, power: i32) -> Option<u128> {
    let factor = 10u128.checked_pow(power.unsigned_abs());
    if power >= 0 { number.checked_mul(factor?) } else { Some(factor.map_or(1, |factor| number.div_ceil(factor))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, milli: Option<u128>) {
        assert_eq!(Quantity::parse(text).ok().map(|quantity| quantity.milli), milli, "{text}");
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        check("0", Some(0));
        check("2", Some(2_000));
        check("1.5", Some(1_500));
        check(".5", Some(500));
        check("500m", Some(500));
        check("1u", Some(1));
        check("512M", Some(512_000_000_000));
        check("1Ki", Some(1_024_000));
        check("1.5Gi", Some(1_610_612_736_000));
        check("1e3", Some(1_000_000));
        check("1E", Some(1_000_000_000_000_000_000_000));
        for wrong in ["", ".", "1.2.3", "-1", "10GB", "10 Gi", "1gi", "Gi", "1e", "99999999999999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn memory_has_a_unit() {
        let mib = |text: &str| text.parse::<Memory>().ok().map(|memory| memory.mib);
        assert_eq!((mib("10Gi"), mib("512Mi"), mib("1M")), (Some(10240), Some(512), Some(1)));
        assert_eq!((mib("1024"), mib("0Gi"), mib("much")), (None, None, None));
        assert_eq!("10240Mi".parse::<Memory>().expect("memory").to_string(), "10Gi");
    }

    #[test]
    fn equal_amounts_are_equal_however_they_are_written() {
        let parse = |text| Quantity::parse(text).expect("a quantity");
        assert_eq!(parse("1Gi"), parse("1024Mi"));
        assert!(parse("1G") < parse("1Gi"));
        assert!(!parse("1500m").is_whole() && parse("2000m").is_whole());
    }
}

//! Kubernetes quantities: `500m`, `1.5`, `8Gi`, `1e3`.

/// A quantity in thousandths of its unit, rounded down. `None` if the text is not a quantity or is
/// too large.
#[must_use]
pub fn thousandths(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let factor: u128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_u128.checked_pow(power.checked_add(3)?)?
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = if whole.is_empty() && !fraction.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let digits = u32::try_from(fraction.len()).ok()?;
    let part: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let part = part
        .checked_mul(factor)?
        .checked_div(10_u128.checked_pow(digits)?)?;
    u64::try_from(whole.checked_mul(factor)?.checked_add(part)?).ok()
}

/// Bytes as a person writes them: `8Gi`, `1536Mi`, or the plain number.
#[must_use]
pub fn bytes(amount: u64) -> String {
    for (shift, unit) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if amount >= 1 << shift && amount.is_multiple_of(1 << shift) {
            return format!("{}{unit}", amount >> shift);
        }
    }
    amount.to_string()
}

/// Thousandths of a CPU as a person writes them: `2`, `500m`.
#[must_use]
pub fn cpu(amount: u64) -> String {
    if amount.is_multiple_of(1000) {
        (amount / 1000).to_string()
    } else {
        format!("{amount}m")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("500m", Some(500))]
    #[case("2", Some(2000))]
    #[case("1.5", Some(1500))]
    #[case(".5", Some(500))]
    #[case("8Gi", Some(8_589_934_592_000))]
    #[case("1e3", Some(1_000_000))]
    #[case("1.5Gi", Some(1_610_612_736_000))]
    #[case("", None)]
    #[case("Gi", None)]
    #[case("x", None)]
    #[case("1e99999", None)]
    #[case("99999999999999999999Pi", None)]
    fn quantities(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(thousandths(text), expected);
    }

    #[test]
    fn amounts_are_written_short() {
        assert_eq!(
            (
                bytes(8 << 30).as_str(),
                bytes(1536 << 20).as_str(),
                bytes(1000).as_str()
            ),
            ("8Gi", "1536Mi", "1000")
        );
        assert_eq!((cpu(2000).as_str(), cpu(500).as_str()), ("2", "500m"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = thousandths(&text);
        }

        #[test]
        fn what_is_written_reads_back(amount in 0_u64..1 << 50) {
            prop_assert_eq!(thousandths(&bytes(amount)), Some(amount * 1000));
            prop_assert_eq!(thousandths(&cpu(amount)), Some(amount));
        }
    }
}

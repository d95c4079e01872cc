//! Files that kubelet mounts from a `ConfigMap` or a Secret.

/// How often files are read at most until two readings agree. Kubelet replaces mounted files by
/// swapping the link `..data`, which may happen between two files and may make a file vanish for a
/// moment. One swap takes three readings: one spoiled, two that agree. The fourth is for a second
/// swap.
const READINGS: usize = 4;

/// Files as they were at one time: read until two readings in a row agree, or until the readings
/// are used up.
pub(crate) fn read_settled<T: PartialEq>(read: impl Fn() -> T) -> T {
    let mut content = read();
    for _ in 1..READINGS {
        let again = read();
        if again == content {
            break;
        }
        content = again;
    }
    content
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rstest::rstest;

    use super::read_settled;

    #[rstest]
    #[case::stays(&[1, 1, 2, 2], 1, 2)]
    #[case::changes_once(&[1, 2, 2, 3], 2, 3)]
    #[case::changes_twice(&[1, 2, 3, 3], 3, 4)]
    #[case::never_settles(&[1, 2, 3, 4, 5], 4, 4)]
    fn files_are_read_until_two_readings_agree(
        #[case] readings: &[u8],
        #[case] content: u8,
        #[case] count: usize,
    ) {
        let at = Cell::new(0);
        let read = || {
            at.set(at.get() + 1);
            readings[at.get() - 1]
        };
        assert_eq!((read_settled(read), at.get()), (content, count));
    }
}

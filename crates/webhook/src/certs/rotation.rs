//! What to do next with the guard's own authority and certificate: a pure function of what there is
//! and the time.
//!
//! Clients trust what is registered in the webhook configurations. So a new authority is first put
//! next to the old one ([`Step::AddAuthority`]), registered with it ([`Step::Register`]), and only
//! then signs the certificate that is served ([`Step::RenewLeaf`]); the old one goes last
//! ([`Step::DropAuthorities`]). Each step leaves something that works, and what is done next
//! follows from what there is, so it does not matter where a replica dies.

use jiff::{SignedDuration, Timestamp};

/// How long the configurations must have carried a new authority before anything signed by it is
/// served. API servers see a change within a second over their watch, and within half a minute
/// where the watch broke and is taken up again.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(60);
/// How long an old authority stays after nothing signed by it is served any more by the leader. The
/// other replicas follow with their next poll (10 s); an hour is for one that does not reach the
/// API server meanwhile. It costs nothing.
pub const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// When something is valid; both ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From when on.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl Span {
    /// Whether it is valid.
    #[must_use]
    pub fn is_valid_at(self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether it is to be replaced: two thirds of its life are over, or it is not valid (also
    /// where the clock went back).
    #[must_use]
    pub fn is_due_at(self, now: Timestamp) -> bool {
        let (age, life) = (
            now.duration_since(self.not_before),
            self.not_after.duration_since(self.not_before),
        );
        !self.is_valid_at(now) || age.as_secs() >= life.as_secs() / 3 * 2
    }
}

/// Whether new certificates can be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// The key of the newest authority is there.
    Ready,
    /// It is not, or is damaged.
    Lost,
}

/// Whether a certificate is good for the names that clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// It is.
    Complete,
    /// A name is missing.
    Missing,
}

/// The certificate that replicas serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// When it is valid.
    pub span: Span,
    /// When it was made.
    pub made: Timestamp,
    /// Which of the authorities signed it.
    pub issuer: Option<usize>,
    /// For whom it is.
    pub names: Names,
}

/// What the webhook configurations carry. One that does not exist has no client and holds nothing
/// up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// All that exist carry exactly the authorities that there are.
    Carried {
        /// Since when this replica has seen it so without a break.
        since: Timestamp,
    },
    /// One carries something else.
    Differs,
    /// They cannot be read.
    Unknown,
}

/// All that the decision needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The authorities that clients are to trust, the newest first.
    pub authorities: Vec<Span>,
    /// Whether the newest can sign.
    pub signing: Signing,
    /// The certificate, where there is one with its key.
    pub leaf: Option<Leaf>,
    /// What clients trust.
    pub registration: Registration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make an authority and a certificate at once: there is nothing that works.
    Create,
    /// Put a new authority before the old ones; the certificate stays.
    AddAuthority,
    /// Write the authorities into the webhook configurations.
    Register,
    /// Sign a new certificate with the newest authority.
    RenewLeaf,
    /// Forget all authorities but the newest.
    DropAuthorities,
    /// Nothing, until the next poll.
    Wait,
}

/// What to do next. Done again and again until it is [`Step::Wait`].
#[must_use]
pub fn next(state: &State, now: Timestamp) -> Step {
    // What a client accepts today that trusts the authorities.
    let working = state.leaf.filter(|leaf| {
        let issuer = leaf.issuer.and_then(|index| state.authorities.get(index));
        leaf.span.is_valid_at(now) && issuer.is_some_and(|issuer| issuer.is_valid_at(now))
    });
    let authority_due = state.signing == Signing::Lost
        || state
            .authorities
            .first()
            .is_none_or(|authority| authority.is_due_at(now));
    let Some(leaf) = working else {
        // Nothing can be broken that is not broken yet, so the order of a rotation would only delay
        // the repair.
        return if authority_due {
            Step::Create
        } else {
            Step::RenewLeaf
        };
    };
    if authority_due {
        return Step::AddAuthority;
    }
    let of_newest = leaf.issuer == Some(0);
    let leaf_due = leaf.span.is_due_at(now) || leaf.names == Names::Missing || !of_newest;
    // Under an authority that is trusted already. Comes before Register, which may lack a right.
    if leaf_due && of_newest {
        return Step::RenewLeaf;
    }
    match state.registration {
        Registration::Differs => Step::Register,
        Registration::Carried { since } if leaf_due && now.duration_since(since) >= SETTLE => {
            Step::RenewLeaf
        }
        Registration::Carried { .. }
            if !leaf_due
                && state.authorities.len() > 1
                && now.duration_since(leaf.made) >= GRACE =>
        {
            Step::DropAuthorities
        }
        Registration::Carried { .. } | Registration::Unknown => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DAY: i64 = 24 * 60 * 60;
    const AUTHORITY: i64 = 365 * DAY;
    const LEAF: i64 = 30 * DAY;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn span(from: i64, to: i64) -> Span {
        Span {
            not_before: at(from),
            not_after: at(to),
        }
    }

    fn leaf(made: i64, issuer: Option<usize>) -> Leaf {
        Leaf {
            span: span(made - 3600, made + LEAF),
            made: at(made),
            issuer,
            names: Names::Complete,
        }
    }

    /// An installation that has just begun.
    fn fresh() -> State {
        State {
            authorities: vec![span(-3600, AUTHORITY)],
            signing: Signing::Ready,
            leaf: Some(leaf(0, Some(0))),
            registration: Registration::Carried { since: at(0) },
        }
    }

    /// Half-way through a rotation on day 244: a new authority, and the certificate of the old one.
    fn between(registration: Registration) -> State {
        let now = 244 * DAY;
        State {
            authorities: vec![span(now - 3600, now + AUTHORITY), span(-3600, AUTHORITY)],
            leaf: Some(leaf(now - DAY, Some(1))),
            registration,
            ..fresh()
        }
    }

    #[rstest]
    #[case::at_once(0, Step::Wait)]
    #[case::a_day_later(DAY, Step::Wait)]
    #[case::after_two_thirds(20 * DAY, Step::RenewLeaf)]
    #[case::last_second(LEAF, Step::RenewLeaf)]
    #[case::expired(LEAF + 1, Step::RenewLeaf)]
    #[case::authority_due_and_leaf_expired(250 * DAY, Step::Create)]
    #[case::a_year_later(366 * DAY, Step::Create)]
    #[case::the_clock_went_back_an_hour(-3599, Step::Wait)]
    #[case::the_clock_went_back_a_day(-DAY, Step::Create)]
    fn time_alone_decides(#[case] now: i64, #[case] step: Step) {
        assert_eq!(next(&fresh(), at(now)), step);
    }

    #[test]
    fn what_is_missing_is_made() {
        let nothing = State {
            authorities: Vec::new(),
            signing: Signing::Lost,
            leaf: None,
            registration: Registration::Differs,
        };
        assert_eq!(next(&nothing, at(0)), Step::Create);
        assert_eq!(
            next(
                &State {
                    leaf: None,
                    ..fresh()
                },
                at(0)
            ),
            Step::RenewLeaf
        );
        assert_eq!(
            next(
                &State {
                    leaf: Some(leaf(0, None)),
                    ..fresh()
                },
                at(0)
            ),
            Step::RenewLeaf,
            "signed by a stranger"
        );
        assert_eq!(
            next(
                &State {
                    signing: Signing::Lost,
                    ..fresh()
                },
                at(0)
            ),
            Step::AddAuthority,
            "the certificate works on"
        );
        assert_eq!(
            next(
                &State {
                    registration: Registration::Differs,
                    ..fresh()
                },
                at(0)
            ),
            Step::Register
        );
        assert_eq!(
            next(
                &State {
                    registration: Registration::Unknown,
                    ..fresh()
                },
                at(0)
            ),
            Step::Wait
        );
        let other = Leaf {
            names: Names::Missing,
            ..leaf(0, Some(0))
        };
        let renamed = State {
            leaf: Some(other),
            registration: Registration::Unknown,
            ..fresh()
        };
        assert_eq!(
            next(&renamed, at(0)),
            Step::RenewLeaf,
            "a known authority needs no registration"
        );
    }

    #[test]
    fn an_expiring_authority_is_replaced_while_the_old_one_is_kept() {
        let now = 244 * DAY;
        let old = State {
            leaf: Some(leaf(now - DAY, Some(0))),
            ..fresh()
        };
        assert_eq!(next(&old, at(now)), Step::AddAuthority);
        assert_eq!(
            next(&between(Registration::Differs), at(now)),
            Step::Register
        );
        assert_eq!(
            next(&between(Registration::Unknown), at(now)),
            Step::Wait,
            "no one knows whether clients trust it"
        );
        let carried = between(Registration::Carried { since: at(now) });
        assert_eq!(
            next(&carried, at(now + 59)),
            Step::Wait,
            "API servers may not have seen it"
        );
        assert_eq!(next(&carried, at(now + 60)), Step::RenewLeaf);
        let renewed = State {
            leaf: Some(leaf(now + 60, Some(0))),
            ..carried
        };
        assert_eq!(
            next(&renewed, at(now + 60 + 3599)),
            Step::Wait,
            "a replica may still serve the old one"
        );
        assert_eq!(next(&renewed, at(now + 60 + 3600)), Step::DropAuthorities);
        let unknown = State {
            registration: Registration::Unknown,
            ..renewed
        };
        assert_eq!(next(&unknown, at(now + DAY)), Step::Wait);
    }

    #[test]
    fn a_rotation_that_hangs_gives_way_when_the_certificate_expires() {
        let late = at(244 * DAY + LEAF);
        assert_eq!(
            next(&between(Registration::Differs), late),
            Step::RenewLeaf,
            "nothing works, so nothing can break"
        );
    }
}

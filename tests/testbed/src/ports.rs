use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// How often a part is started again with other ports, if another program has taken one of its
/// ports.
const ATTEMPTS: usize = 5;

/// Finds `N` different ports free on loopback and calls `start` with them; retries if another
/// program has taken one of them.
pub(crate) fn with_free_ports<const N: usize, T>(
    mut start: impl FnMut([u16; N]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        match start(free_ports()?) {
            Err(error) if error.is_port_clash() && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let failed = |e| Error::doing("finding a free port", e);
    let mut ports = [0; N];
    // All are held until the last one is found, so that no port is found twice.
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        *port = listener.local_addr().map_err(failed)?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, Error, free_ports, with_free_ports};

    #[test]
    fn free_ports_are_different() {
        let mut ports = free_ports::<20>().expect("ports").to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn a_port_clash_is_retried_and_other_failures_are_not() {
        let mut calls = 0;
        let result = with_free_ports(|[_]: [u16; 1]| {
            calls += 1;
            if calls < 3 {
                Err(Error::new("taken").with_port_clash(true))
            } else {
                Ok(calls)
            }
        });
        assert_eq!(result.expect("the third try"), 3);

        calls = 0;
        let clash = |_: [u16; 1]| -> Result<(), Error> {
            calls += 1;
            Err(Error::new("taken").with_port_clash(true))
        };
        assert!(with_free_ports(clash).is_err());
        assert_eq!(calls, ATTEMPTS);

        calls = 0;
        let other = |_: [u16; 1]| -> Result<(), Error> {
            calls += 1;
            Err(Error::new("bad flag"))
        };
        assert!(with_free_ports(other).is_err());
        assert_eq!(calls, 1);
    }
}

//! The machine's network: when it has changed, and whether there is any.
//!
//! Says only that something may have changed: addresses or routes (Linux tells, by
//! netlink), or that time has passed without this process, as in a suspend. What it means
//! for a tunnel is found out by probing it.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    thread,
    time::Duration,
};

use rustix::io::Errno;
use tokio::{net::lookup_host, sync::watch, time::timeout};

use crate::platform::clock::{BootInstant, Clock};

/// How often the clock is looked at: each time wakes a processor.
const TICK: Duration = Duration::from_secs(3);
/// A tick that is later than this was no busy moment: the machine was asleep, or this
/// process stopped.
const GAP: Duration = Duration::from_secs(4);
/// What the look-up of a name may take where no route leads anywhere.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Starts to watch; the number grows with each change.
pub fn watch() -> watch::Receiver<u64> {
    let (changes, receiver) = watch::channel(0);
    // One that sleeps costs a wake-up for each tick, where a timer of the runtime costs three.
    let clock = thread::Builder::new().name("clock".into());
    let for_clock = changes.clone();
    if let Err(error) = clock.spawn(move || watch_clock(&for_clock)) {
        tracing::warn!(%error, "sleep of the machine isn't noticed at once: no thread can be started");
    }
    tokio::spawn(async move { watch_routes(&changes).await });
    receiver
}

/// Whether a route leads to a host. Sends nothing there; a name is looked up only where
/// there is no default route.
pub async fn leads_to(host: &str) -> bool {
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return has_route(address);
    }
    // Addresses that are nobody's (RFC 5737, RFC 3849): only a default route leads there.
    let anywhere = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ];
    if anywhere.into_iter().any(has_route) {
        return true;
    }
    match timeout(LOOK_UP, lookup_host((host, 9))).await {
        Ok(Ok(mut addresses)) => addresses.any(|address| has_route(address.ip())),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Asks the kernel: connecting a UDP socket looks a route up and sends nothing. Where it
/// can't be asked, for want of descriptors say, there may be one.
fn has_route(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let asked = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 9)));
    match asked {
        Ok(()) => true,
        Err(error) => matches!(
            Errno::from_io_error(&error),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
        ),
    }
}

/// Whether HTTPS goes by a proxy, which may know a way where this machine has none.
pub fn has_proxy() -> bool {
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|proxy| !proxy.is_empty()))
}

fn watch_clock(changes: &watch::Sender<u64>) {
    let mut last = Clock::now();
    while !changes.is_closed() {
        wait_for_tick();
        #[cfg(debug_assertions)]
        Clock::skip_for_tests();
        let now = Clock::now();
        if let Some(missed) = missed(last, now) {
            tracing::info!(
                seconds = missed.as_secs(),
                "time has passed unseen: the machine slept, or borealisd was stopped"
            );
            tell(changes);
        }
        last = now;
    }
}

/// Sleeps by a clock that goes on in a suspend where there is one, and so ends with it.
#[allow(clippy::disallowed_methods, reason = "on a thread of its own")]
fn wait_for_tick() {
    #[cfg(target_os = "linux")]
    {
        use rustix::{
            thread::{NanosleepRelativeResult, clock_nanosleep_relative},
            time::{ClockId, Timespec},
        };
        let tick = Timespec {
            tv_sec: TICK.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        match clock_nanosleep_relative(ClockId::Boottime, &tick) {
            NanosleepRelativeResult::Ok | NanosleepRelativeResult::Interrupted(_) => return,
            NanosleepRelativeResult::Err(_) => {}
        }
    }
    thread::sleep(TICK);
}

/// The time between two ticks, where it is too long for them to be neighbours.
fn missed(last: BootInstant, now: BootInstant) -> Option<Duration> {
    let passed = now.since(last);
    (passed > TICK + GAP).then_some(passed)
}

fn tell(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count += 1);
}

#[cfg(target_os = "linux")]
async fn watch_routes(changes: &watch::Sender<u64>) {
    let socket = match netlink::Socket::open() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "changes of the network can't be seen");
            return;
        }
    };
    loop {
        if let Err(error) = socket.changed().await {
            tracing::warn!(%error, "changes of the network are no longer seen");
            return;
        }
        tracing::debug!("addresses or routes have changed");
        tell(changes);
    }
}

/// Elsewhere only keepalive and the clock tell.
#[cfg(not(target_os = "linux"))]
async fn watch_routes(_: &watch::Sender<u64>) {}

#[cfg(target_os = "linux")]
mod netlink {
    use std::{io, os::fd::OwnedFd, time::Duration};

    use rustix::{
        io::Errno,
        net::{
            AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink,
            recv, socket_with,
        },
    };
    use tokio::{io::unix::AsyncFd, time::sleep};

    /// Addresses and routes of both families (`RTMGRP_*` of linux/rtnetlink.h). Not the
    /// links: a wireless one tells of itself all the time.
    const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
    /// Changes come in bursts: a Wi-Fi that is joined brings addresses and routes one by
    /// one.
    const BURST: Duration = Duration::from_millis(300);

    /// Hears of changes. The messages aren't read: that there is one is enough.
    pub(super) struct Socket(AsyncFd<OwnedFd>);

    impl Socket {
        pub(super) fn open() -> io::Result<Self> {
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                // NETLINK_ROUTE.
                None,
            )?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            #[allow(
                deprecated,
                reason = "unsound for types that lie about their descriptor"
            )]
            Ok(Self(AsyncFd::new(socket)?))
        }

        /// Waits for a change, and for the end of the burst that it begins.
        pub(super) async fn changed(&self) -> io::Result<()> {
            loop {
                let mut ready = self.0.readable().await?;
                if self.take()? {
                    break;
                }
                ready.clear_ready();
            }
            sleep(BURST).await;
            while self.take()? {}
            Ok(())
        }

        /// Whether there was a message.
        fn take(&self) -> io::Result<bool> {
            let mut message = [0; 4096];
            match recv(self.0.get_ref(), &mut message, RecvFlags::empty()) {
                // Too many to be kept: there were some.
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => Ok(true),
                Err(Errno::AGAIN) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_of_sleep_is_noticed_and_a_busy_second_is_not() {
        let at = |seconds| BootInstant::since_boot(Duration::from_secs(seconds));
        assert_eq!(missed(at(100), at(103)), None);
        assert_eq!(missed(at(100), at(107)), None);
        let night = Duration::from_secs(8 * 3600);
        assert_eq!(missed(at(100), at(100) + night), Some(night));
    }

    #[tokio::test]
    async fn loopback_needs_no_network() {
        assert!(leads_to("127.0.0.1").await);
        assert!(leads_to("localhost").await);
    }
}

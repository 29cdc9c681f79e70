//! A line of a given round trip time, rate and loss, between this network namespace and a
//! further one: two TUN devices and threads that carry packets from one to the other, late.
//!
//! `tc netem` would do the same in the kernel, where the kernel has it: many that come with
//! containers and virtual machines don't.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, TrySendError},
    thread,
    time::{Duration, Instant},
};

use rand::RngExt as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::line::Line;

/// This end's address: one of loopback's, where the daemon lets HTTP be without TLS.
const HERE: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 1);
/// The far end's.
pub(crate) const THERE: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 2);

/// An offloaded packet with its header in front.
const PACKET: usize = 66 * 1024;
/// Packets under way and waiting, before further ones are lost: `netem`'s own limit, where a
/// line is so narrow that it matters.
const NARROW_QUEUE: usize = 1000;
/// More than any connection may have under way.
const QUEUE: usize = 1 << 16;
/// What Linux takes unless told otherwise, and so most bastions.
pub(crate) const CONGESTION_CONTROL: &str = "cubic";

/// Such a line. Dropping it ends the far namespace.
pub(crate) struct LinkEmulator {
    /// Keeps the far namespace while it lives.
    holder: Child,
}

// === impl LinkEmulator ===

impl LinkEmulator {
    pub(crate) fn start(line: Line) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo; exec cat"])
            // Its end is the end of this process, however that comes.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux, as root");
        let mut apart = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut apart)
            .unwrap();
        let this = Self { holder };
        let near = device(line, HERE);
        let far = this.there(|| {
            bring_up();
            device(line, THERE)
        });
        let (near, far) = (share(near), share(far));
        carry(line, near, far);
        carry(line, far, near);
        this.check(line);
        this
    }

    /// Runs what is to be at the far end, with all threads and processes that it starts.
    pub(crate) fn there<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = format!("/proc/{}/ns/net", self.holder.id());
        let namespace = File::open(namespace).expect("a namespace");
        let moved = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("to enter the namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(moved).join().unwrap())
    }

    /// A line that isn't what it says would make all figures lies.
    fn check(&self, line: Line) {
        let listener = self.there(|| TcpListener::bind((THERE, 0)).unwrap());
        let there = listener.local_addr().unwrap();
        let wanted = Duration::from_millis(line.round_trip.into());
        let fastest = (0..20)
            .map(|_| {
                let began = Instant::now();
                TcpStream::connect(there).unwrap();
                began.elapsed()
            })
            .min()
            .unwrap();
        assert!(
            fastest >= wanted && fastest < wanted.mul_f64(1.1),
            "a round trip takes {fastest:?} where it should take {wanted:?}"
        );
    }
}

impl Drop for LinkEmulator {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The most that a TCP connection may have under way, in bytes: with the kernel's defaults it,
/// and not the line, would be the limit.
const SOCKET_BUFFERS: &str = "4096 131072 67108864";

/// Whether a network namespace may have the congestion control that is measured with; else what
/// to do. Where the system has another one, that is all that namespaces may have besides "reno".
pub(crate) fn check_congestion_control() -> Result<(), String> {
    let setting = "net.ipv4.tcp_allowed_congestion_control";
    let allowed = fs::read_to_string(format!("/proc/sys/{}", setting.replace('.', "/")));
    // In a namespace there is no such file.
    let Ok(allowed) = allowed else { return Ok(()) };
    let allowed = allowed.trim();
    if allowed.split(' ').any(|one| one == CONGESTION_CONTROL) {
        return Ok(());
    }
    Err(format!(
        "this system lets a network namespace have {allowed}, and not {CONGESTION_CONTROL}, with which is measured; as root run:\n  sysctl -w {setting}='{allowed} {CONGESTION_CONTROL}'"
    ))
}

/// A new network namespace has no interface that is up. Of loopback's addresses it gets one:
/// others may be elsewhere.
pub(crate) fn bring_up() {
    ip(&["link", "set", "lo", "up"]);
    ip(&["address", "add", "127.0.0.1/32", "dev", "lo"]);
    // Which the kernel has added by itself.
    ip(&["address", "del", "127.0.0.1/8", "dev", "lo"]);
    let setting = "/proc/sys/net/ipv4/tcp_congestion_control";
    fs::write(setting, CONGESTION_CONTROL).expect("a setting");
}

/// The threads that carry packets live as long as the process.
fn share(device: SyncDevice) -> &'static SyncDevice {
    Box::leak(Box::new(device))
}

fn device(line: Line, address: Ipv4Addr) -> SyncDevice {
    // Where packets are lost, or wait, they must be as long as a network's. Else they may be the
    // kernel's own long ones: their checksums and lengths stay as they are, and so many
    // fewer pass that the carrying costs little beside what is measured.
    let device = DeviceBuilder::new()
        .name("bench")
        .mtu(1500)
        .offload(line.loss == 0 && !line.is_narrow())
        .build_sync()
        .expect("a TUN device, as root");
    fs::write("/proc/sys/net/ipv4/conf/bench/route_localnet", "1").expect("a setting");
    for buffers in ["tcp_rmem", "tcp_wmem"] {
        let setting = format!("/proc/sys/net/ipv4/{buffers}");
        fs::write(setting, SOCKET_BUFFERS).expect("a setting");
    }
    let address = format!("{address}/24");
    ip(&["address", "add", &address, "dev", "bench"]);
    ip(&["link", "set", "bench", "txqueuelen", "10000", "up"]);
    device
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status();
    assert!(status.expect("ip, of iproute2").success(), "ip {args:?}");
}

/// Carries packets one way: what comes is sent on one after the other at the line's rate,
/// and arrives half a round trip later.
fn carry(line: Line, from: &'static SyncDevice, to: &'static SyncDevice) {
    let delay = Duration::from_micros(u64::from(line.round_trip) * 500);
    let bytes_a_second = f64::from(line.rate) * 1e6 / 8.0;
    let queue = if line.is_narrow() {
        NARROW_QUEUE
    } else {
        QUEUE
    };
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Box<[u8]>)>(queue);
    thread::spawn(move || {
        let mut packet = vec![0; PACKET];
        let mut free_at = Instant::now();
        while let Ok(length) = rustix::io::read(from, &mut packet) {
            if rand::rng().random_ratio(line.loss, 100) {
                continue;
            }
            let sent_in = Duration::from_secs_f64(length as f64 / bytes_a_second);
            let free_then = free_at.max(Instant::now()) + sent_in;
            match sender.try_send((free_then + delay, packet[..length].into())) {
                Ok(()) => free_at = free_then,
                Err(TrySendError::Full(_)) => (),
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    });
    thread::spawn(move || {
        while let Ok((arrives, packet)) = receiver.recv() {
            #[allow(
                clippy::disallowed_methods,
                reason = "time is what the line is made of"
            )]
            thread::sleep(arrives.saturating_duration_since(Instant::now()));
            // What a device that is full doesn't take is lost, as anywhere.
            let _ = rustix::io::write(to, &packet);
        }
    });
}

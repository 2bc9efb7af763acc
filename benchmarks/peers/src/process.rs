//! What the operating system says of this process.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads so far, user and system together.
pub fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let (secs, nanos) = (u64::try_from(spent.tv_sec), u32::try_from(spent.tv_nsec));
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}

/// The resident set in bytes.
pub fn rss_bytes() -> Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.context("/proc/self/statm has another form")? * rustix::param::page_size() as u64)
}

/// Allows as many open files as the system lets this process have: hundreds of clients have a socket or two each.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The receive buffer of this process's UDP socket on `port`, in bytes as the kernel counts them (on Linux twice what
/// was granted, its own overhead included). `None` where no system call tells, or there is no such socket.
#[cfg(target_os = "linux")]
pub fn receive_buffer_bytes(port: u16) -> Option<usize> {
    use rustix::net::{SocketType, getsockname, sockopt};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let this_process = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    let descriptors = std::fs::read_dir("/proc/self/fd").ok()?;
    descriptors
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|descriptor| pidfd_getfd(&this_process, descriptor, PidfdGetfdFlags::empty()).ok())
        .filter(|socket| sockopt::socket_type(socket) == Ok(SocketType::DGRAM))
        .find(|socket| {
            let name = getsockname(socket).ok().and_then(|name| std::net::SocketAddr::try_from(name).ok());
            name.is_some_and(|name| name.port() == port)
        })
        .and_then(|socket| sockopt::socket_recv_buffer_size(&socket).ok())
}

/// The receive buffer of this process's UDP socket on `port`: not known here.
#[cfg(not(target_os = "linux"))]
pub fn receive_buffer_bytes(_port: u16) -> Option<usize> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_receive_buffer_is_that_of_the_socket_on_the_port() {
        let sockets = [64 * 1024, 128 * 1024].map(|asked| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket2::SockRef::from(&socket).set_recv_buffer_size(asked).unwrap();
            socket
        });
        for socket in &sockets {
            let granted = socket2::SockRef::from(socket).recv_buffer_size().unwrap();
            assert_eq!(receive_buffer_bytes(socket.local_addr().unwrap().port()), Some(granted));
        }
    }

    #[test]
    fn work_costs_processor_time() {
        let before = cpu();
        while cpu() < before + Duration::from_millis(5) {
            std::hint::black_box(0);
        }
        assert!(rss_bytes().unwrap() > 100_000);
    }
}

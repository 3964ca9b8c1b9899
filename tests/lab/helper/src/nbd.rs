//! An NBD server for one client. Its stdin controls its faults.
//!
//! It implements a part of doc/proto.md of the NBD project: the fixed newstyle handshake, the
//! options EXPORT_NAME, GO and ABORT, and simple replies. One thread reads requests, one answers
//! them, and one executes commands.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_E889_0455_65A9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const FIXED_NEWSTYLE: u16 = 1;
const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) + 1;
const INFO_EXPORT: u16 = 0;
/// NBD_FLAG_HAS_FLAGS: the server offers only reads and writes.
const EXPORT_FLAGS: u16 = 1;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const EIO: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Answer,
    Hold,
    Mute,
    Fail { delay: Duration },
}

struct Request {
    at: Instant,
    cookie: u64,
    /// Length of the reply's data in bytes.
    data_len: u32,
}

struct State {
    mode: Mode,
    requests: VecDeque<Request>,
}

/// The state shared by the threads, and its condition variable.
struct Shared(Mutex<State>, Condvar);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.1.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.1.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a disk of this size until the client disconnects.
pub(crate) fn serve(address: &str, size_bytes: u64) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let state = State {
        mode: Mode::Answer,
        requests: VecDeque::new(),
    };
    let shared = Arc::new(Shared(Mutex::new(state), Condvar::new()));
    let (for_commands, for_answers) = (Arc::clone(&shared), Arc::clone(&shared));
    thread::spawn(move || execute_commands(&for_commands));
    let (mut client, _) = listener.accept()?;
    client.set_nodelay(true)?;
    handshake(&mut client, size_bytes)?;
    let replies = client.try_clone()?;
    thread::spawn(move || answer(&for_answers, replies));
    read_requests(&shared, client)
}

/// Executes the commands on stdin. After its end, the last one stays in force.
fn execute_commands(shared: &Shared) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mode = match words[..] {
            ["answer"] => Mode::Answer,
            ["hold"] => Mode::Hold,
            ["mute"] => Mode::Mute,
            ["fail", delay] => Mode::Fail {
                delay: Duration::from_millis(delay.parse().unwrap_or(0)),
            },
            _ => {
                let _ = writeln!(io::stderr(), "lab-helper: unknown command: {line}");
                continue;
            }
        };
        shared.change(|state| state.mode = mode);
    }
}

/// The handshake.
fn handshake(client: &mut TcpStream, size_bytes: u64) -> io::Result<()> {
    client.write_all(b"NBDMAGIC")?;
    client.write_all(&OPTION_MAGIC.to_be_bytes())?;
    client.write_all(&FIXED_NEWSTYLE.to_be_bytes())?;
    let _client_flags = read_u32(client)?;
    loop {
        if read_u64(client)? != OPTION_MAGIC {
            return Err(io::Error::other("the client uses another protocol"));
        }
        let option = read_u32(client)?;
        let length = read_u32(client)?;
        skip(client, length)?;
        match option {
            OPTION_EXPORT_NAME => {
                let mut export = [0; 8 + 2 + 124];
                export[..8].copy_from_slice(&size_bytes.to_be_bytes());
                export[8..10].copy_from_slice(&EXPORT_FLAGS.to_be_bytes());
                return client.write_all(&export);
            }
            OPTION_GO => {
                let mut info = INFO_EXPORT.to_be_bytes().to_vec();
                info.extend(size_bytes.to_be_bytes());
                info.extend(EXPORT_FLAGS.to_be_bytes());
                reply_to_option(client, option, REPLY_INFO, &info)?;
                return reply_to_option(client, option, REPLY_ACK, &[]);
            }
            OPTION_ABORT => return Err(io::Error::other("the client aborted the handshake")),
            _ => reply_to_option(client, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn reply_to_option(client: &mut TcpStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend((data.len() as u32).to_be_bytes());
    reply.extend(data);
    client.write_all(&reply)
}

/// Reads requests until the client disconnects. Pauses while the server is mute.
fn read_requests(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    loop {
        let mut state = shared.lock();
        while state.mode == Mode::Mute {
            state = shared.wait(state);
        }
        drop(state);
        let mut header = [0; 28];
        client.read_exact(&mut header)?;
        let (magic, header) = split::<4>(&header);
        let (_flags, header) = split::<2>(header);
        let (kind, header) = split::<2>(header);
        let (cookie, header) = split::<8>(header);
        let (_offset, header) = split::<8>(header);
        let (length, _) = split::<4>(header);
        if u32::from_be_bytes(magic) != REQUEST_MAGIC {
            return Err(io::Error::other("not a request"));
        }
        let length = u32::from_be_bytes(length);
        let data_len = match u16::from_be_bytes(kind) {
            READ => length,
            WRITE => {
                skip(&mut client, length)?;
                0
            }
            DISCONNECT => return Ok(()),
            _ => 0,
        };
        let request = Request {
            at: Instant::now(),
            cookie: u64::from_be_bytes(cookie),
            data_len,
        };
        shared.change(|state| state.requests.push_back(request));
    }
}

/// Answers requests in their order.
fn answer(shared: &Shared, mut client: TcpStream) {
    loop {
        let (request, error) = next_to_answer(shared);
        let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(request.cookie.to_be_bytes());
        if error == 0 {
            reply.resize(reply.len() + request.data_len as usize, 0);
        }
        if client.write_all(&reply).is_err() {
            return;
        }
    }
}

/// Waits until a request must be answered. Returns it with the errno for the reply.
fn next_to_answer(shared: &Shared) -> (Request, u32) {
    let mut state = shared.lock();
    loop {
        let due = match (state.mode, state.requests.front()) {
            (Mode::Answer, Some(_)) => Some(Duration::ZERO),
            (Mode::Fail { delay }, Some(first)) => Some(delay.saturating_sub(first.at.elapsed())),
            _ => None,
        };
        let error = if state.mode == Mode::Answer { 0 } else { EIO };
        state = match due {
            Some(Duration::ZERO) => {
                let first = state.requests.pop_front().expect("a due request");
                return (first, error);
            }
            Some(left) => {
                let waited = shared.1.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.wait(state),
        };
    }
}

fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = bytes.split_first_chunk().expect("a whole header");
    (*first, rest)
}

fn read_u32(client: &mut TcpStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    client.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(client: &mut TcpStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    client.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn skip(client: &mut TcpStream, bytes: u32) -> io::Result<()> {
    io::copy(&mut client.take(u64::from(bytes)), &mut io::sink())?;
    Ok(())
}

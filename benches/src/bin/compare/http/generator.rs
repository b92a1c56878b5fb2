//! Asks a server with less work than it takes to answer: requests are written as they are, answers are counted by their bytes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 64;
/// While the server has one half of the connections to work on, the other half is read and written.
const HALF: usize = CONNECTIONS / 2;

/// Connections to one server, which stay.
pub struct Connections {
    streams: Vec<TcpStream>,
    /// Bytes of an answer, all of which are alike.
    answer: usize,
}

impl Connections {
    /// To this port of this machine, where a first request is asked.
    pub fn to(port: u16, request: &[u8]) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
            stream.set_nodelay(true).expect("the connection is there");
            stream
        };
        let mut streams: Vec<_> = (0..CONNECTIONS).map(connect).collect();
        streams[0].write_all(request).expect("the server reads");
        let answer = streams[0].read(&mut [0; 1024]).expect("the server answers");
        Self { streams, answer }
    }

    /// How long so many requests take when there is always one to be answered.
    pub fn saturate(&mut self, requests: &[Vec<u8>], times: usize) -> Duration {
        let (mut turn, answer) = (requests.iter().cycle(), self.answer);
        let (mut asked, mut next) = self.streams.split_at_mut(HALF);
        let started = Instant::now();
        ask(asked, &mut turn);
        for _ in 1..times / HALF {
            ask(next, &mut turn);
            hear(asked, answer);
            (asked, next) = (next, asked);
        }
        hear(asked, answer);
        started.elapsed()
    }

    /// How long each of so many requests waits, from when it is due until it is answered.
    pub fn latencies(&mut self, requests: &[Vec<u8>], times: usize, every: Duration) -> Vec<Duration> {
        self.block(false);
        let mut turn = requests.iter().cycle();
        let mut free: Vec<usize> = (0..CONNECTIONS).collect();
        let (mut asked, mut latencies) = (VecDeque::new(), Vec::with_capacity(times));
        let mut due = Instant::now();
        let mut left = times;
        while latencies.len() < times {
            if left > 0
                && Instant::now() >= due
                && let Some(stream) = free.pop()
            {
                self.streams[stream].write_all(turn.next().expect("it goes on")).expect("the server reads");
                asked.push_back((stream, due));
                due += every;
                left -= 1;
            }
            asked.retain(|(stream, due): &(usize, Instant)| {
                let is_open = !is_answered(&mut self.streams[*stream], self.answer);
                if !is_open {
                    latencies.push(due.elapsed());
                    free.push(*stream);
                }
                is_open
            });
        }
        self.block(true);
        latencies
    }

    fn block(&self, block: bool) {
        self.streams.iter().for_each(|stream| stream.set_nonblocking(!block).expect("the connection is there"));
    }
}

fn ask<'a>(streams: &mut [TcpStream], turn: &mut impl Iterator<Item = &'a Vec<u8>>) {
    for (stream, request) in streams.iter_mut().zip(turn) {
        stream.write_all(request).expect("the server reads");
    }
}

/// The last first, so that the others do not have to be waited for one by one.
fn hear(streams: &mut [TcpStream], answer: usize) {
    for stream in streams.iter_mut().rev() {
        let mut buffer = [0; 1024];
        stream.read_exact(&mut buffer[..answer]).expect("the server answers");
        assert!(buffer[..answer].ends_with(b"ok"));
    }
}

fn is_answered(stream: &mut TcpStream, answer: usize) -> bool {
    match stream.read(&mut [0; 1024]) {
        Ok(read) => {
            assert_eq!(read, answer, "an answer comes as a whole");
            true
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("the server has gone: {error}"),
    }
}

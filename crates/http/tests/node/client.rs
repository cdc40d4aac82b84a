//! A client that sends exactly the bytes it is told to.

use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An answer, read by its `Content-Length`.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn context(&self) -> String {
        self.header("Kula-Context").unwrap().to_string()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `503 K0301`: a problem must be whole, and must not show our insides.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status);
        for field in ["type", "title", "code", "detail", "applied", "hint", "trace"] {
            assert!(json[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {json}");
        }
        let text = json.to_string();
        for inside in ["kula_", "src/", "Some(", "Err("] {
            assert!(!text.contains(inside), "{text}");
        }
        format!("{} {}", self.status, json["code"].as_str().unwrap())
    }
}

/// One connection.
pub struct Client(TcpStream);

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        Client(stream)
    }

    /// The kernel of this client holds next to nothing of what is not read.
    pub fn takes_little(&self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.0, 4 << 10).unwrap();
    }

    pub fn first_byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// A request with a body of known length.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: n1\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat()).unwrap();
        self.answer(method != "HEAD").unwrap()
    }

    /// The next answer; `None` if the connection closed instead.
    pub fn answer(&mut self, has_body: bool) -> Option<Answer> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Ok(_) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_string(), value.to_string()));
        let mut answer = Answer { status, headers: lines.filter_map(pair).collect(), body: Vec::new() };
        let length = answer.header("Content-Length").map_or(0, |text| text.parse().unwrap());
        answer.body = vec![0; if has_body && !matches!(status, 204 | 304) { length } else { 0 }];
        self.0.read_exact(&mut answer.body).unwrap();
        Some(answer)
    }

    /// Everything until the server closes; the time limit of a read is the test's limit for a hang.
    pub fn drain(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.0.read(&mut chunk) {
                Ok(0) => return all,
                Ok(count) => all.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("{error}: the server hangs after {:?}", String::from_utf8_lossy(&all)),
            }
        }
    }

    /// Nothing more will be sent.
    pub fn finish(&mut self) {
        // The server may have closed already.
        drop(self.0.shutdown(std::net::Shutdown::Write));
    }
}

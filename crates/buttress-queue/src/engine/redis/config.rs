use std::fmt;
use std::time::Duration;

use bullmq::options::RedisConnectionOptions;

use super::wire::Numbers;

/// Which Redis, which queue in it, and how it is used.
#[derive(Clone)]
#[must_use = "a configuration does nothing until an engine is made with it"]
pub struct RedisConfig {
    pub(super) url: String,
    pub(super) queue: String,
    pub(super) prefix: String,
    pub(super) numbers: Numbers,
    pub(super) patience: Duration,
}

impl RedisConfig {
    /// The queue of this name in the Redis at this address: `redis://user:password@host:port/database`, `rediss://` for TLS.
    pub fn new(url: impl Into<String>, queue: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            queue: queue.into(),
            prefix: "bull".to_owned(),
            numbers: Numbers([1, 2, 5, 10]),
            patience: Duration::from_millis(200),
        }
    }

    /// What the keys begin with. `bull` by default, as everywhere in BullMQ.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The numbers that BullMQ knows priorities by, the most urgent first. 1, 2, 5 and 10 by default; they are made to ascend
    /// from 1 at least.
    pub fn priorities(mut self, numbers: [u32; 4]) -> Self {
        let mut least = 1;
        self.numbers = Numbers(numbers.map(|number| {
            let number = number.clamp(least, 1 << 20);
            least = number + 1;
            number
        }));
        self
    }

    /// Within this time a push is decided, by [`Unavailable`](crate::EngineError::Unavailable) when Redis does not answer;
    /// anything else takes ten times as long at most. 200 ms by default.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn connection(&self) -> RedisConnectionOptions {
        RedisConnectionOptions::new().url(self.url.as_str())
    }

    /// What is wrong with it, if something is.
    pub(super) fn check(&self) -> Result<(), InvalidRedis> {
        let name = |text: &str| !text.is_empty() && !text.contains(':');
        if !name(&self.queue) {
            return Err(InvalidRedis::Queue(self.queue.clone()));
        }
        if !name(&self.prefix) {
            return Err(InvalidRedis::Prefix(self.prefix.clone()));
        }
        redis::Client::open(self.url.as_str()).map_err(|_| InvalidRedis::Url).map(drop)
    }
}

/// The address is not shown: there may be a password in it.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("queue", &self.queue).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What is wrong with a [`RedisConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRedis {
    /// The address is none that Redis is at. Not shown: there may be a password in it.
    Url,
    /// This is no name of a queue.
    Queue(String),
    /// This is no prefix of keys.
    Prefix(String),
}

impl fmt::Display for InvalidRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("no address of a Redis: redis://host:port/database is one"),
            Self::Queue(name) => write!(f, "{name:?} is no name of a queue: it is not empty and has no ':' in it"),
            Self::Prefix(prefix) => write!(f, "{prefix:?} is no prefix of keys: it is not empty and has no ':' in it"),
        }
    }
}

impl std::error::Error for InvalidRedis {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_named_and_an_address_is_not_shown() {
        let check = |url: &str, queue: &str| RedisConfig::new(url, queue).check();
        assert_eq!(check("redis://host/", "webhooks"), Ok(()));
        assert_eq!(check("redis://host/", "a:b"), Err(InvalidRedis::Queue("a:b".to_owned())));
        assert_eq!(check("http://:secret@host/", "webhooks"), Err(InvalidRedis::Url));
        assert!(!format!("{:?}", RedisConfig::new("redis://:secret@host/", "webhooks")).contains("secret"));
    }

    #[test]
    fn numbers_of_priorities_ascend() {
        assert_eq!(RedisConfig::new("redis://host/", "q").priorities([0, 1, 1, 9]).numbers.0, [1, 2, 3, 9]);
    }
}

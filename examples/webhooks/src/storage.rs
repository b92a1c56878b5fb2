//! Where the queues are.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fmt, fs};

use buttress::Telemetry;
use buttress_queue::{EngineConfig, Queue, Redis, RedisConfig, Sqlite};

pub(crate) enum Storage {
    /// A file for each, in this folder.
    Files(PathBuf),
    /// The Redis there.
    Redis(String),
}

impl Storage {
    /// The Redis of `REDIS_URL`; else files in `WEBHOOKS_DATA`, or in the folder for what is temporary.
    #[allow(clippy::disallowed_methods, reason = "the library's settings know nothing of these")]
    pub(crate) fn from_env() -> Result<Self, Box<dyn Error>> {
        if let Ok(url) = env::var("REDIS_URL") {
            return Ok(Self::Redis(url));
        }
        let folder = env::var_os("WEBHOOKS_DATA").map_or_else(|| env::temp_dir().join("buttress-webhooks"), Into::into);
        fs::create_dir_all(&folder)?;
        Ok(Self::Files(folder))
    }

    pub(crate) fn queue(&self, name: &str, telemetry: &Telemetry) -> Result<Queue, Box<dyn Error>> {
        let config = EngineConfig::default();
        let queue = match self {
            Self::Files(folder) => Queue::new(name, Sqlite::open(folder.join(format!("{name}.db")), config)?),
            Self::Redis(url) => Queue::new(name, Redis::new(RedisConfig::new(url, name), config)?),
        };
        Ok(queue.telemetry(telemetry))
    }
}

/// Without the address of Redis, in which there may be a password.
impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(folder) => write!(f, "{}", folder.display()),
            Self::Redis(_) => f.write_str("Redis"),
        }
    }
}

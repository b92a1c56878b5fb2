//! What BullMQ's own scripts do not do, done on its keys at once: see the comments in `scripts/`.

use std::sync::LazyLock;

use bullmq::redis_connection::AnyConnection;
use bullmq::{Error, QueueKeys};
use redis::{FromRedisValue, Script, ScriptInvocation, ToRedisArgs};

macro_rules! scripts {
    ($($name:ident $file:literal,)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("scripts/prelude.lua"), include_str!($file))));)*
    };
}

scripts! {
    AGE "scripts/age.lua",
    BURY "scripts/bury.lua",
    CONTENTS "scripts/contents.lua",
    DEAD "scripts/dead.lua",
    DUE "scripts/due.lua",
    EVICT "scripts/evict.lua",
    FIND "scripts/find.lua",
    LEASE "scripts/lease.lua",
    PUSH "scripts/push.lua",
    TAKE_BACK "scripts/take_back.lua",
}

/// One run of a script, for a queue.
pub(super) struct Call<'a>(ScriptInvocation<'a>);

impl<'a> Call<'a> {
    /// Of this script, at this time in Unix milliseconds.
    pub(super) fn new(script: &'a Script, keys: &QueueKeys, now: u64) -> Self {
        let mut call = script.prepare_invoke();
        let all = [
            keys.wait(),
            keys.active(),
            keys.prioritized(),
            keys.delayed(),
            keys.completed(),
            keys.failed(),
            keys.meta(),
            keys.events(),
            keys.marker(),
            keys.pc(),
            keys.id(),
            keys.stalled(),
        ];
        for key in all {
            call.key(key);
        }
        call.arg(keys.key_prefix()).arg(now);
        Self(call)
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.0.arg(arg);
        self
    }

    pub(super) fn args(self, args: impl IntoIterator<Item = impl ToRedisArgs>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(super) async fn run<T: FromRedisValue>(self, mut connection: AnyConnection) -> Result<T, Error> {
        Ok(self.0.invoke_async(&mut connection).await?)
    }
}

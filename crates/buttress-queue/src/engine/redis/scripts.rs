//! What is done on the keys of BullMQ at once: see the comments in `scripts/`.

use std::sync::LazyLock;

use bullmq::{Error, QueueKeys};
use redis::aio::ConnectionLike;
use redis::{FromRedisValue, Script, ScriptInvocation, ToRedisArgs};

macro_rules! scripts {
    ($($name:ident $file:literal,)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("scripts/prelude.lua"), include_str!($file))));)*
    };
}

scripts! {
    BURY "scripts/bury.lua",
    CLAIM "scripts/claim.lua",
    CLEAN "scripts/clean.lua",
    CONTENTS "scripts/contents.lua",
    DEAD "scripts/dead.lua",
    DUE "scripts/due.lua",
    EVICT "scripts/evict.lua",
    EXTEND "scripts/extend.lua",
    FIND "scripts/find.lua",
    PUSH "scripts/push.lua",
    SETTLE "scripts/settle.lua",
}

/// One run of a script, for a queue.
pub(super) struct Call<'a>(ScriptInvocation<'a>);

impl<'a> Call<'a> {
    /// Of this script, at this time of the queue's clock; nothing is done after `until` by the clock of Redis. Both in Unix
    /// milliseconds.
    pub(super) fn new(script: &'a Script, keys: &QueueKeys, now: u64, until: u64) -> Self {
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
        call.arg(keys.key_prefix()).arg(now).arg(until);
        Self(call)
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.0.arg(arg);
        self
    }

    pub(super) fn args(self, args: impl IntoIterator<Item = impl ToRedisArgs>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(super) async fn run<T: FromRedisValue>(self, connection: &mut impl ConnectionLike) -> Result<T, Error> {
        Ok(self.0.invoke_async(connection).await?)
    }
}

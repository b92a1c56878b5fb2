//! What must compile, and do what it does without the attribute.

use std::fmt::Debug;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use buttress::observe;

use crate::{TELEMETRY, last, spans, told};

struct Cart<T> {
    items: Vec<T>,
}

impl<T: Debug + Clone> Cart<T> {
    #[observe]
    fn first_mut(&mut self) -> Option<&mut T> {
        self.items.first_mut()
    }

    #[observe(fields(%index))]
    fn at<I>(&self, index: I) -> &T
    where
        I: Copy + Into<usize> + std::fmt::Display,
    {
        &self.items[index.into()]
    }

    #[observe]
    async fn push<'a>(&'a mut self, item: T) -> &'a [T] {
        self.items.push(item);
        &self.items
    }

    #[observe]
    fn into_items(self) -> Vec<T> {
        self.items
    }
}

#[observe(fields(N = N))]
fn sum<const N: usize>(mut of: [u64; N], by: impl Fn(u64) -> u64) -> u64 {
    for number in &mut of {
        *number = by(*number);
    }
    of.iter().sum()
}

#[observe]
fn longest<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.len() > other.len() {
        return one;
    }
    other
}

#[observe]
fn evens(to: u32) -> impl Iterator<Item = u32> {
    (0..to).step_by(2)
}

#[observe]
async fn parsed(text: &str) -> Result<impl Debug + PartialEq<u32>, std::num::ParseIntError> {
    let number: u32 = text.parse()?;
    Ok(number)
}

#[observe]
fn diverges() -> ! {
    panic!("on purpose")
}

#[observe]
async fn diverges_later() -> ! {
    tokio::task::yield_now().await;
    panic!("on purpose")
}

#[observe]
pub(super) unsafe fn trusts(number: *const u8) -> bool {
    number.is_null()
}

#[observe]
async fn waits_for<F>(future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    future.await
}

#[tokio::test]
async fn functions_of_any_form_do_what_they_do() {
    LazyLock::force(&TELEMETRY);
    let mut cart = Cart { items: vec![1_u8, 2] };
    *cart.first_mut().unwrap() = 7;
    assert_eq!(*cart.at(0_u8), 7);
    assert_eq!(cart.push(3).await, [7, 2, 3]);
    assert_eq!(cart.into_items().len(), 3);
    assert_eq!(sum([1, 2, 3], |number| number * 10), 60);
    assert_eq!(told(&last("written::sum"), "N"), "3");
    assert_eq!(longest("one", "other"), "other");
    assert_eq!(evens(5).sum::<u32>(), 6);
    assert!(parsed("7").await.unwrap() == 7);
    assert!(parsed("x").await.is_err());
    assert_eq!(last("written::parsed").outcome.as_str(), "error");
    assert!(catch_unwind(AssertUnwindSafe(|| diverges())).is_err());
    assert!(tokio::spawn(async { diverges_later().await }).await.is_err());
    assert_eq!(last("written::diverges_later").outcome.as_str(), "panicked");
    assert_eq!(tokio::spawn(waits_for(async { 7 })).await.unwrap(), 7);
    assert_eq!(spans("written::waits_for").len(), 1);
}

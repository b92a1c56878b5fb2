//! What came in since an earlier snapshot. Pure: knows no time and no collector.

use std::collections::HashMap;

use buttress::metrics::{FamilySnapshot, FineBuckets, HistogramPoint, Kind, Label, Point, Snapshot};

/// The snapshot with its counters and histograms as they grew since `base`; series that did not grow are left out.
///
/// Both have to be of one registry: there a series never goes, and its buckets never change.
pub(super) fn since(base: &Snapshot, mut snapshot: Snapshot) -> Snapshot {
    let known: HashMap<&str, &FamilySnapshot> = base.families.iter().map(|family| (&*family.name, family)).collect();
    for family in &mut snapshot.families {
        if let (Kind::Counter | Kind::Histogram, Some(before)) = (family.kind, known.get(&*family.name)) {
            take(family, before);
        }
    }
    snapshot.families.retain(|family| !family.series.is_empty());
    snapshot
}

fn take(family: &mut FamilySnapshot, before: &FamilySnapshot) {
    let before: HashMap<&[Label], &Point> =
        before.series.iter().map(|series| (&*series.labels, &series.point)).collect();
    family.series.retain_mut(|series| match before.get(&*series.labels) {
        Some(before) => has_grown(&mut series.point, before),
        None => true,
    });
}

/// Takes away what was there before, and tells whether anything is left.
fn has_grown(point: &mut Point, before: &Point) -> bool {
    match (point, before) {
        (Point::Int(now), Point::Int(before)) => {
            *now = now.saturating_sub(*before);
            *now != 0
        }
        (Point::Float(now), Point::Float(before)) => {
            *now -= before;
            *now != 0.0
        }
        (Point::Histogram(now), Point::Histogram(before)) => {
            histogram(now, before);
            // A recording may lie with its sum in one snapshot and with its count in the next: both have to arrive.
            let fine = now.fine.as_ref().map_or(0, FineBuckets::count);
            now.count() != 0 || now.sum != 0.0 || fine != 0
        }
        _ => true,
    }
}

fn histogram(now: &mut HistogramPoint, before: &HistogramPoint) {
    reduce(&mut now.counts, &before.counts);
    now.sum -= before.sum;
    for (exemplar, before) in now.exemplars.iter_mut().zip(&before.exemplars) {
        if exemplar == before {
            *exemplar = None;
        }
    }
    if let (Some(now), Some(before)) = (&mut now.fine, &before.fine) {
        fine(now, before);
    }
}

fn fine(now: &mut FineBuckets, before: &FineBuckets) {
    now.zero_count = now.zero_count.saturating_sub(before.zero_count);
    // Buckets only come, so that the first one of now is not above the first one of before, if there was any.
    let lower = usize::try_from(before.offset - now.offset).unwrap_or(0).min(now.counts.len());
    reduce(&mut now.counts[lower..], &before.counts);
    let empty = now.counts.iter().take_while(|count| **count == 0).count();
    now.counts.drain(..empty);
    now.counts.truncate(now.counts.iter().rposition(|count| *count != 0).map_or(0, |last| last + 1));
    now.offset = if now.counts.is_empty() { 0 } else { now.offset + empty as i32 };
}

fn reduce(now: &mut [u64], before: &[u64]) {
    now.iter_mut().zip(before).for_each(|(now, before)| *now = now.saturating_sub(*before));
}

// Rates and percentiles, computed from two readings of cumulative figures. Also how numbers are written.

/** The value below which a share `q` of the observations lies, interpolated within its bucket; null without any. */
export function quantile(counts, bounds, q) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  let rank = q * total;
  for (let i = 0; i < counts.length; i++) {
    if (rank <= counts[i] && counts[i]) {
      if (i === bounds.length) return bounds[i - 1]; // above the last bound nothing more is known
      const low = i ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * (rank / counts[i]);
    }
    rank -= counts[i];
  }
  return bounds[bounds.length - 1];
}

const MAX_GAP_S = 30; // a page in the background reads nothing, and an average over that time is not what happens now

/**
 * The seconds between two readings, by the server's clock; null if they say nothing of now: there was none before, the
 * server has started again since, or the earlier one is old. `server` is what /console/data says of the server.
 */
export function between(later, earlier) {
  if (!earlier || later.started !== earlier.started) return null;
  const seconds = later.at_s - earlier.at_s;
  return seconds >= 0 && seconds <= MAX_GAP_S ? seconds : null;
}

const minus = (later, earlier) => later.map((value, i) => value - (earlier ? earlier[i] : 0));
const failures = (outcomes) => Object.entries(outcomes).reduce((sum, [kind, n]) => sum + (kind === "success" ? 0 : n), 0);
const all = (outcomes) => Object.values(outcomes).reduce((sum, n) => sum + n, 0);

/**
 * What happened between two readings of a model's figures: requests and failures per second, p50 and p99 and the mean
 * time in the queue in seconds, mean rows of a batch (null if nothing ran), and what is in progress now.
 */
export function rates(later, earlier, seconds, buckets) {
  const requests = minus(later.request.counts, earlier.request.counts);
  const queued = minus(later.queue.counts, earlier.queue.counts).reduce((sum, n) => sum + n, 0);
  const batches = later.executions - earlier.executions;
  return {
    perSecond: Math.max(0, all(later.outcomes) - all(earlier.outcomes)) / seconds,
    failed: Math.max(0, failures(later.outcomes) - failures(earlier.outcomes)) / seconds,
    p50: quantile(requests, buckets.seconds, 0.5),
    p99: quantile(requests, buckets.seconds, 0.99),
    queue: queued > 0 ? (later.queue.total - earlier.queue.total) / queued : null,
    batch: batches > 0 ? (later.batch_rows.total - earlier.batch_rows.total) / batches : null,
    queued: later.queued,
    inFlight: later.in_flight,
  };
}

/** The sum of several models' figures, as if they were one. */
export function sum(figures) {
  const added = { outcomes: {}, executions: 0, queued: 0, in_flight: 0 };
  for (const each of figures) {
    for (const [kind, n] of Object.entries(each.outcomes)) added.outcomes[kind] = (added.outcomes[kind] || 0) + n;
    for (const name of ["executions", "queued", "in_flight"]) added[name] += each[name];
    for (const name of ["request", "queue", "batch_rows"]) {
      const before = added[name];
      added[name] = {
        counts: before ? before.counts.map((n, i) => n + each[name].counts[i]) : [...each[name].counts],
        total: (before ? before.total : 0) + each[name].total,
      };
    }
  }
  return figures.length ? added : null;
}

const NONE = "–";

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 0.001) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)} ms`;
  return `${digits(seconds)} s`;
}

export function bytes(count) {
  if (!count) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit++; }
  return `${digits(count)} ${units[unit]}`;
}

export function number(value) {
  return value === null || value === undefined ? NONE : digits(value);
}

/** Three significant digits at most, without an exponent. */
function digits(value) {
  if (value >= 100 || value === 0) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(value >= 10 ? 3 : 2)));
}

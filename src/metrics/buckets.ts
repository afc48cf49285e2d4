/**
 * Upper bounds for how long something takes, in seconds, from 0.5 ms to the longest deadline of 30 s. Neighbours are 1.25 to
 * 1.7 times apart up to half a second, so that the 99.9th percentile is read to within as much, not just the median.
 */
export const secondsBuckets: readonly number[] = [
  0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2,
  0.3, 0.5, 1, 2.5, 5, 10, 30,
];

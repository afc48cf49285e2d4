/**
 * An address for `pg` that means what it meant: `pg` takes these modes for `verify-full`, and warns on stderr that a later version
 * will not, so the mode is said by its name. With `uselibpqcompat=true` they are libpq's, and stay as they are.
 */
export function connectionStringOf(url: string): string {
  return /[?&]uselibpqcompat=true\b/.test(url)
    ? url
    : url.replace(/([?&]sslmode=)(?:prefer|require|verify-ca)(?=&|#|$)/g, "$1verify-full");
}

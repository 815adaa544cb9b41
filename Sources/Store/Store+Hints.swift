extension Store {
    /// How many places of the store may hold a page with this checksum, at most eight: what deduplication asks first.
    ///
    /// Hints, read without a lock; a writer compares the page byte by byte before it shares one.
    public func hintCount(for checksum: Checksum) -> Int { ground.candidates(for: checksum).count }
}

/// Where the pages of a restored machine come from: a checkpoint in a store, an image, a remote host.
///
/// Pages are numbered over all of `MachineState.memory`: those of the first extent, then those of the next. A source is
/// asked from several threads at once, and answers before it returns.
public protocol PageSource: Sendable {
    /// Whether a page holds anything but zeros.
    ///
    /// A page that is not there is never read.
    func has(_ page: Int) -> Bool

    /// Reads neighbouring pages, all of which `has` knows.
    ///
    /// - Parameter buffer: `count` times `pageBytes` bytes, to be filled wholly with contents that were checked.
    /// - Throws: `PageSourceError` for what cannot be read or is damaged; the buffer's contents are not used then.
    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError)
}

extension PageSource {
    /// Reads neighbouring pages of memory with which a guest goes on: generators of random numbers in them will draw new seeds.
    ///
    /// - Throws: what `read` throws.
    func readToGoOn(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        try read(page: page, count: count, into: buffer)
        InheritedGenerators.expire(in: UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(count * pageBytes)))
    }
}

/// A page that its source cannot give.
public struct PageSourceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The page's number.
    public let page: Int
    /// What is wrong, and where.
    public let reason: String

    /// A page that cannot be had.
    public init(page: Int, reason: String) {
        self.page = page
        self.reason = reason
    }

    /// "Cannot read page N of the checkpoint: REASON".
    public var description: String { "Cannot read page \(page) of the checkpoint: \(reason)" }
}

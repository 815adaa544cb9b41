internal import CLinux
internal import Linux

/// Tells which pages of a mapping exist, so that a full checkpoint need not touch those that were never written.
///
/// Reads /proc/self/pagemap; where that is refused, all pages count as there. An answer may be as old as the one before it, for
/// pages that are asked for in rising order: make a new one for a new look.
public final class PopulatedPages {
    private static let path = "/proc/self/pagemap"
    private static let present: UInt64 = 1 << 63
    private static let swapped: UInt64 = 1 << 62
    /// Pages asked for at once: two pages of answers.
    private static let batch = 1024

    private let file: SharedDescriptor?
    private var words = [UInt64](repeating: 0, count: PopulatedPages.batch)
    private var known: Range<Int> = 0..<0

    /// Opens the page map of this process.
    public init() { file = try? SharedDescriptor(OwnedDescriptor.open(PopulatedPages.path, O_RDONLY)) }

    /// Whether the page at an address of this process has contents.
    public func contains(_ address: UnsafeRawPointer) -> Bool {
        guard let file else { return true }
        let page = Int(bitPattern: address) / pageBytes
        if !known.contains(page) {
            let count = words.withUnsafeMutableBytes { clinux_pread(file.rawValue, $0.baseAddress, $0.count, Int64(page * 8)) }
            guard count >= 8 else { return true }
            known = page..<page + count / 8
        }
        return words[page - known.lowerBound] & (PopulatedPages.present | PopulatedPages.swapped) != 0
    }
}

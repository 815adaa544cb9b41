internal import AuroraVMM
internal import CLinux
internal import Linux

/// A page of zeros, aligned to a page.
///
/// `@unchecked Sendable`: the bytes are set before anybody sees them.
final class ZeroPage: @unchecked Sendable {
    static let shared = ZeroPage()
    let base: UnsafeMutableRawPointer

    private init() {
        base = .allocate(byteCount: pageBytes, alignment: pageBytes)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: pageBytes)
    }

    /// Whether a page holds zeros; one that does not costs a few reads as a rule.
    @inline(__always)
    static func matches(_ page: UnsafeRawPointer) -> Bool {
        // Most pages show at their first word that they are none.
        page.load(as: UInt64.self) == 0 && memcmp(page, shared.base, pageBytes) == 0
    }
}

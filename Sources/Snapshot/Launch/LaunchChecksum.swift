internal import CLinux
import Linux
import Store

/// The checksum of a launch file: over its pages that are not zero, each with its place, so that holes cost nothing.
struct LaunchChecksum {
    private static let zeroPage = [UInt8](repeating: 0, count: 4096)
    private var low: UInt64 = 0
    private var high: UInt64 = 0

    /// Adds the page at an index; pages come in rising order, the last one may be shorter.
    mutating func add(_ bytes: UnsafeRawBufferPointer, at page: Int) {
        guard !LaunchChecksum.isZero(bytes) else { return }
        let sum = Checksum(of: bytes, seed: UInt64(truncatingIfNeeded: page))
        let words = [low, high, sum.low, sum.high]
        let next = words.withUnsafeBytes { Checksum(of: $0) }
        (low, high) = (next.low, next.high)
    }

    /// Adds neighbouring pages.
    mutating func add(run: UnsafeRawBufferPointer, at page: Int) {
        for start in stride(from: 0, to: run.count, by: 4096) {
            add(UnsafeRawBufferPointer(rebasing: run[start..<min(start + 4096, run.count)]), at: page + start / 4096)
        }
    }

    /// Whether a page has nothing but zeros.
    static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress else { return true }
        return bytes.count <= 4096 && zeroPage.withUnsafeBytes { memcmp(base, $0.baseAddress ?? base, bytes.count) } == 0
    }

    /// 32 hexadecimal digits.
    var text: String { LaunchChecksum.text(low, high) }

    static func text(_ low: UInt64, _ high: UInt64) -> String {
        func digits(_ value: UInt64) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return digits(high) + digits(low)
    }

    /// The checksum of a short text or list.
    static func text(of bytes: [UInt8]) -> String {
        let sum = bytes.withUnsafeBytes { Checksum(of: $0) }
        return text(sum.low, sum.high)
    }

    /// Reads an open file and computes its checksum.
    static func text(ofFile file: borrowing OwnedDescriptor, bytes: Int, path: String) throws(LaunchError) -> String {
        let number = file.rawValue
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        var sum = LaunchChecksum()
        var offset = 0
        while offset < bytes {
            let data = Int(lseek(number, off_t(offset), SEEK_DATA))
            if data < 0 { break }
            offset = data / 4096 * 4096
            let count = min(buffer.count, bytes - offset)
            guard count > 0 else { break }
            var done = 0
            while done < count {
                let got = try launchCall("read", path) {
                    clinux_pread(number, buffer.baseAddress.map { $0 + done }, count - done, Int64(offset + done))
                }
                guard got > 0 else { throw .damaged(path, reason: "it ends at byte \(offset + done)") }
                done += got
            }
            sum.add(run: UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: offset / 4096)
            offset += count
        }
        return sum.text
    }
}

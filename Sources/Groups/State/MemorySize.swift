internal import CLinux

/// Sizes as people write them: `256M`, `8G`, `1048576`.
public enum MemorySize {
    /// The least memory a group may have.
    ///
    /// The kernel, its modules and the agent need about half of it.
    public static let groupBytesMin = 64 << 20
    /// What a group gets when the user does not say.
    public static let groupBytesDefault = 256 << 20

    /// Reads a number of bytes, with an optional binary unit K, M, G or T (also KiB, MB and the like).
    ///
    /// - Throws: `GroupError` (`.invalidValue`).
    public static func parse(_ text: String) throws(GroupError) -> Int {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count).uppercased()
        let shifts = ["": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40]
        let shift = shifts[unit] ?? shifts[String(unit.prefix(1))].flatMap { ["IB", "B"].contains(unit.dropFirst()) ? $0 : nil }
        guard let number = Int(digits), let shift else {
            throw GroupError(
                .invalidValue, "Invalid size \"\(text.prefix(40))\"", remedy: "Write a number with a unit, for example 256M or 2G.")
        }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
        guard !overflow else { throw GroupError(.invalidValue, "Size \(text.prefix(40)) is too large") }
        return bytes
    }

    /// Reads the memory size of a group and checks it against this host.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) naming the limit.
    public static func parseGroupMemory(_ text: String, hostBytes: Int = MemorySize.hostBytes) throws(GroupError) -> Int {
        let bytes = try parse(text)
        guard bytes >= groupBytesMin else {
            throw GroupError(
                .invalidValue, "Memory of \(format(bytes)) is too small for a group",
                remedy: "A group needs at least \(format(groupBytesMin)).")
        }
        guard bytes <= hostBytes else {
            throw GroupError(
                .invalidValue, "Memory of \(format(bytes)) is more than this host has",
                remedy: "This host has \(format(hostBytes)) of memory; ask for less.")
        }
        // Guest memory is whole pages, and large mappings want whole 2 MiB pages.
        let granule = 2 << 20
        return bytes / granule * granule
    }

    /// The memory of this host in bytes.
    public static var hostBytes: Int { max(0, Int(clinux_memory_bytes())) }

    /// Writes a size the short way: `256M`, `1.5G`.
    public static func format(_ bytes: Int) -> String {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")]
        for (shift, unit) in units where bytes >= 1 << shift {
            let tenths = Int((Double(bytes) / Double(1 << shift) * 10).rounded())
            return tenths % 10 == 0 ? "\(tenths / 10)\(unit)" : "\(tenths / 10).\(tenths % 10)\(unit)"
        }
        return "\(bytes)B"
    }
}

internal import FoundationEssentials

/// The opaque state of a group's checkpoint: the host's side as JSON, then the machine's state.
///
/// `AURGROUP`, version (32 bits, little-endian), bytes of the JSON (32 bits), JSON, the machine's state up to the end. The store keeps
/// checksums of it; still every length is checked, because a store may come from somebody else.
public struct CheckpointEnvelope: Sendable, Hashable {
    /// The version this source writes and reads.
    public static let currentVersion: UInt32 = 1
    /// The host's side is small; what is larger is not ours.
    static let contextBytesMax = 1 << 20
    private static let magic = Array("AURGROUP".utf8)
    private static let headerBytes = 16

    /// The host's side.
    public let context: GroupContext
    /// The machine's state, as it encoded itself.
    public let machine: ArraySlice<UInt8>

    /// Reads an envelope.
    ///
    /// - Throws: `GroupError` (`.badState`) saying what is wrong with it.
    public init(_ bytes: [UInt8], of what: String) throws(GroupError) {
        guard bytes.count >= CheckpointEnvelope.headerBytes, bytes.starts(with: CheckpointEnvelope.magic) else {
            throw GroupError(.badState, "\(what) is not a checkpoint of a group", remedy: "Choose another; list them with: aurora history")
        }
        func word(_ offset: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) } }
        let version = word(8)
        guard version == CheckpointEnvelope.currentVersion else {
            throw GroupError(
                .badState, "\(what) has state format \(version), this program knows \(CheckpointEnvelope.currentVersion)",
                remedy: version > CheckpointEnvelope.currentVersion ? "Use a newer version of aurora." : "Use the version that made it.")
        }
        let count = Int(word(12))
        guard count <= CheckpointEnvelope.contextBytesMax, count <= bytes.count - CheckpointEnvelope.headerBytes else {
            throw GroupError(.badState, "\(what) is damaged: its description would have \(count) bytes")
        }
        let end = CheckpointEnvelope.headerBytes + count
        do {
            context = try JSONDecoder().decode(GroupContext.self, from: Data(bytes[CheckpointEnvelope.headerBytes..<end]))
        } catch {
            throw GroupError(.badState, "\(what) is damaged: its description cannot be read: \(error)")
        }
        guard context.version == GroupContext.currentVersion else {
            throw GroupError(.badState, "\(what) has a description of version \(context.version), this program knows 1")
        }
        machine = bytes[end...]
    }

    /// Writes an envelope from a description that is JSON already.
    public static func encode(context: [UInt8], machine: some Collection<UInt8>) -> [UInt8] {
        var bytes = magic
        bytes.reserveCapacity(headerBytes + context.count + machine.count)
        for value in [currentVersion, UInt32(clamping: context.count)] {
            for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
        }
        return bytes + context + machine
    }

    /// A description as JSON.
    ///
    /// - Throws: `GroupError` when it cannot be written.
    public static func encode(_ context: GroupContext) throws(GroupError) -> [UInt8] {
        do { return try StateFile.encode(context) } catch { throw GroupError(.host, "Cannot describe the group: \(error)") }
    }
}

internal import FoundationEssentials

extension MachineState {
    /// "AURSTATE", then the version of this framing, then the payload's length; both little-endian, 4 bytes.
    private static let magic = Array("AURSTATE".utf8)
    private static let framing: UInt32 = 1
    private static let headerBytes = 16
    /// Far more than any state has: some 20 KiB.
    static let encodedBytesMax = 4 << 20

    /// The state as bytes: a header, then a binary property list.
    ///
    /// The contents are not secured by a checksum: that is for
    /// the store that keeps them.
    ///
    /// - Throws: `MachineError.state` when the encoder fails.
    public func encoded() throws(MachineError) -> [UInt8] {
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        let payload: Data
        do { payload = try encoder.encode(self) } catch { throw .state("it cannot be encoded: \(error)") }
        var header = KernelBytes(MachineState.magic + [UInt8](repeating: 0, count: 8))
        header.store(MachineState.framing, at: 8)
        header.store(UInt32(truncatingIfNeeded: payload.count), at: 12)
        return header.bytes + Array(payload)
    }

    /// Reads what `encoded()` wrote.
    ///
    /// - Throws: `MachineError.state` for anything else.
    public init(encoded bytes: [UInt8]) throws(MachineError) {
        let header = KernelBytes(Array(bytes.prefix(MachineState.headerBytes)))
        guard bytes.count <= MachineState.encodedBytesMax, header.bytes.starts(with: MachineState.magic),
            let framing: UInt32 = header.load(8), let count: UInt32 = header.load(12)
        else { throw .state("it does not begin like the state of a machine") }
        guard framing == MachineState.framing else {
            throw .state("it was written in format \(framing), this program reads format \(MachineState.framing)")
        }
        guard bytes.count - MachineState.headerBytes == Int(count) else {
            throw .state("it is truncated: \(bytes.count - MachineState.headerBytes) bytes instead of \(count)")
        }
        do {
            self = try PropertyListDecoder().decode(MachineState.self, from: Data(bytes[MachineState.headerBytes...]))
        } catch {
            throw .state("it is damaged: \(MachineState.reason(of: error))")
        }
    }

    private static func reason(of error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        let context =
            switch error {
            case .dataCorrupted(let context), .keyNotFound(_, let context), .typeMismatch(_, let context), .valueNotFound(_, let context):
                context
            @unknown default: DecodingError.Context(codingPath: [], debugDescription: "\(error)")
            }
        let path = context.codingPath.map(\.stringValue).joined(separator: ".")
        return path.isEmpty ? context.debugDescription : "\(path): \(context.debugDescription)"
    }
}

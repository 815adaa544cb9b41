internal import CLinux
internal import FoundationEssentials
internal import Linux

/// Small JSON files that are always whole: a reader finds the old content or the new, whatever happens to the writers.
enum StateFile {
    /// Files of state are small; what is larger is not ours.
    static let bytesMax = 1 << 20

    /// Replaces a file's content, at once for whoever reads it.
    ///
    /// - Parameter flushesDirectory: whether the new content is to be found after a power cut; else the old one may be.
    static func write(_ value: some Encodable, to path: String, flushesDirectory: Bool = true) throws(GroupError) {
        do {
            let bytes = try encode(value)
            guard bytes.count <= bytesMax else { throw SystemError("write", path, errno: Errno(rawValue: EFBIG)) }
            try DurableFile.replace(path, with: bytes, flushesDirectory: flushesDirectory)
        } catch {
            throw GroupError(.host, "Cannot write \(path): \(error)", remedy: "Check free space and permissions of its directory.")
        }
    }

    /// A value as JSON that people and programs read.
    static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(value))
    }

    /// Reads a file that `write` made.
    ///
    /// - Parameter remedy: what can be done about one that is damaged.
    static func read<Value: Decodable>(_ type: Value.Type, from path: String, remedy: String) throws(GroupError) -> Value {
        let bytes = try contents(of: path)
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw GroupError(.badState, "\(path) is damaged: \(summary(of: error))", remedy: remedy)
        }
    }

    /// All bytes of a small file.
    static func contents(of path: String) throws(GroupError) -> [UInt8] {
        do throws(SystemError) {
            guard let bytes = try DurableFile.read(path, bytesMax: bytesMax) else { throw SystemError("open", path, errno: .noEntry) }
            return bytes
        } catch {
            let kind: GroupError.Kind =
                switch error.errno.rawValue {
                case ENOENT: .notFound
                case EFBIG: .badState
                default: .host
                }
            throw GroupError(kind, kind == .badState ? "\(path) is damaged: it has more than \(bytesMax) bytes" : "\(error)")
        }
    }

    private static func summary(of error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        return switch error {
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context), .dataCorrupted(let context):
            context.debugDescription
        @unknown default: "not the expected JSON"
        }
    }
}

internal import CLinux
internal import FoundationEssentials
internal import Linux

/// Small JSON files that are always whole: a reader finds the old content or the new, whatever happens to the writer.
enum StateFile {
    /// Files of state are small; what is larger is not ours.
    static let bytesMax = 1 << 20

    /// Replaces a file's content: written aside, made durable, renamed over.
    static func write(_ value: some Encodable, to path: String) throws(GroupError) {
        do {
            let bytes = try encode(value)
            let temporary = "\(path).new"
            let file = try OwnedDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
            let number = file.rawValue
            try DescriptorIO.writeAll(bytes, to: number, what: temporary)
            try systemCall("write", temporary) { clinux_fdatasync(number) }
            try systemCall("rename", temporary) { clinux_rename(temporary, path) }
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
    static func read<Value: Decodable>(_ type: Value.Type, from path: String) throws(GroupError) -> Value {
        let bytes = try contents(of: path)
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw GroupError(
                .badState, "\(path) is damaged: \(summary(of: error))", remedy: "Remove the group with: aurora rm --force NAME")
        }
    }

    /// All bytes of a small file.
    static func contents(of path: String) throws(GroupError) -> [UInt8] {
        do {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            let number = file.rawValue
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 16384)
            while true {
                let count = try DescriptorIO.read(number, into: &chunk, what: path)
                if count == 0 { return bytes }
                bytes += chunk[..<count]
                guard bytes.count <= bytesMax else { throw GroupError(.badState, "\(path) is larger than \(bytesMax) bytes") }
            }
        } catch let error as SystemError {
            throw GroupError(error.errno == .noEntry ? .notFound : .host, "\(error)")
        } catch let error as GroupError {
            throw error
        } catch {
            throw GroupError(.host, "Cannot read \(path): \(error)")
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

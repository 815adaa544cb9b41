internal import FoundationEssentials

/// An installed Debian package and its exact version.
public struct InstalledPackage: Codable, Hashable, Sendable {
    /// The package's name.
    public let name: String
    /// Its Debian version.
    public let version: String

    /// Reads the recipes' lists: "NAME VERSION" a line.
    static func parse(_ text: String) -> [InstalledPackage] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            return fields.count == 2 ? InstalledPackage(name: String(fields[0]), version: String(fields[1])) : nil
        }
    }
}

/// Reading and writing of `manifest.json`, which marks a finished kernel or image and says what is in it.
enum Manifest {
    static let fileName = "manifest.json"
    /// The longest manifest that is read, in bytes.
    static let lengthMax = 4 << 20

    static func write(_ manifest: some Encodable, to directory: String) throws(ImageError) {
        let path = "\(directory)/\(fileName)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(manifest) else {
            throw .corrupt(what: "manifest", path: path, reason: "it cannot be written as JSON", remedy: "aurora image prepare")
        }
        try Files.write(data + [UInt8(ascii: "\n")], to: path)
    }

    /// What every manifest starts with; read first, so that a newer one is told apart from a broken one.
    private struct Header: Decodable {
        let kind: String
        let schema: Int
    }

    /// Reads a manifest of one kind; everything in it is still to be checked against the files.
    ///
    /// - Throws: the reason in words.
    static func read<Body: Decodable>(_: Body.Type, kind: String, schema: Int, from directory: String) throws(UnusableManifest) -> Body {
        let bytes: [UInt8]
        do { bytes = try Files.read("\(directory)/\(fileName)", lengthMax: lengthMax) } catch {
            throw UnusableManifest(reason: "its manifest cannot be read (\(error))")
        }
        return try decode(Body.self, kind: kind, schema: schema, bytes)
    }

    /// Reads a manifest's text; the pure part of `read`.
    static func decode<Body: Decodable>(_: Body.Type, kind: String, schema: Int, _ bytes: [UInt8]) throws(UnusableManifest) -> Body {
        guard let header = try? JSONDecoder().decode(Header.self, from: Data(bytes)) else {
            throw UnusableManifest(reason: "its manifest is not one of Aurora's")
        }
        guard header.kind == kind else { throw UnusableManifest(reason: "its manifest is of another kind of thing") }
        guard header.schema == schema else {
            throw UnusableManifest(reason: "its manifest has version \(header.schema), this program reads version \(schema)")
        }
        do { return try JSONDecoder().decode(Body.self, from: Data(bytes)) } catch {
            throw UnusableManifest(reason: "its manifest is incomplete")
        }
    }

    /// Now, as ISO 8601 in UTC.
    static func now() -> String { Date().formatted(.iso8601) }

    /// Whether a text is a SHA-256 in lower-case hexadecimal.
    static func isSHA256(_ text: String) -> Bool {
        text.utf8.count == 64 && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }

    /// Whether a text is one plain file name, which cannot lead out of a directory.
    static func isFileName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 255 && !text.hasPrefix(".") && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != 0x2f }
    }
}

/// Why a manifest cannot be used, in words that follow "Cannot use image x in PATH: ".
struct UnusableManifest: Error {
    let reason: String
}

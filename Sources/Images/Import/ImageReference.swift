/// Where a foreign image is: `oci:DIRECTORY[:TAG]`, `oci-archive:FILE[:TAG]` or `docker-archive:FILE[:REFERENCE]`, as skopeo writes it.
public struct ImageReference: Hashable, Sendable, CustomStringConvertible {
    /// The forms an image comes in.
    public enum Transport: String, CaseIterable, Sendable {
        /// A directory of the OCI image layout.
        case oci
        /// The same in a tar archive.
        case ociArchive = "oci-archive"
        /// What `docker save` writes.
        case dockerArchive = "docker-archive"
    }

    /// The form.
    public let transport: Transport
    /// The directory or file.
    public let path: String
    /// Which image of several; nil when there is only one.
    public let tag: String?
    /// As it was written.
    public let description: String

    /// Reads a reference; a path with a colon in it is taken as it is when it exists.
    ///
    /// - Throws: `ImageError.invalidReference`.
    public init(_ text: String) throws(ImageError) {
        guard let colon = text.firstIndex(of: ":"), let transport = Transport(rawValue: String(text[..<colon])) else {
            throw .invalidReference(text)
        }
        let rest = text[text.index(after: colon)...]
        self.transport = transport
        description = text
        let end = Files.exists(String(rest)) ? nil : rest.firstIndex(of: ":")
        path = String(rest[..<(end ?? rest.endIndex)])
        tag = end.map { String(rest[rest.index(after: $0)...]) }
        guard !path.isEmpty, tag?.isEmpty != true, !text.utf8.contains(0) else { throw .invalidReference(text) }
    }

    /// A name for the image when the user gives none: of the repository, else of the file.
    ///
    /// Nil when that gives no valid name.
    public var suggestedName: ImageName? {
        let base: Substring
        if transport == .dockerArchive, let tag {
            base = (tag.split(separator: "/").last ?? "").prefix { $0 != ":" && $0 != "@" }
        } else {
            let file = path.split(separator: "/").last { $0 != "." } ?? ""
            base = transport == .oci ? file : file.prefix { $0 != "." }
        }
        return try? ImageName(base.lowercased())
    }
}

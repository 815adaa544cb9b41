internal import FoundationEssentials

/// The JSON documents of the OCI image specification 1.1 and of Docker's image format 2.2, as far as they matter here.
enum ImageDocuments {
    /// A reference to a blob.
    struct Descriptor: Decodable, Equatable {
        let mediaType: String?
        let digest: ContentDigest
        let size: Int
        var platform: Platform?
        var annotations: [String: String]?

        /// The tag an index gives it.
        var tag: String? { annotations?["org.opencontainers.image.ref.name"] }
        /// The whole name that some programs add.
        var longName: String? { annotations?["io.containerd.image.name"] }
    }

    /// What an image runs on.
    struct Platform: Decodable, Equatable {
        let architecture: String
        let os: String
        var variant: String?
    }

    /// `oci-layout`.
    struct Layout: Decodable {
        let imageLayoutVersion: String
    }

    /// `index.json`, and an index within it.
    struct Index: Decodable {
        let schemaVersion: Int?
        let manifests: [Descriptor]
    }

    /// What an image consists of.
    struct Manifest: Decodable {
        let schemaVersion: Int
        let config: Descriptor
        let layers: [Descriptor]
    }

    /// How its program is run, and the digests of its uncompressed layers.
    struct Configuration: Decodable {
        let architecture: String?
        let variant: String?
        let os: String?
        let created: String?
        let config: ProcessDefaults.Foreign?
        let rootfs: RootFiles
    }

    /// The layers of a configuration.
    struct RootFiles: Decodable {
        let type: String
        let layers: [ContentDigest]

        enum CodingKeys: String, CodingKey {
            case type
            case layers = "diff_ids"
        }
    }

    /// An entry of `manifest.json` in what `docker save` writes.
    struct SavedImage: Decodable {
        let config: String
        let tags: [String]?
        let layers: [String]

        enum CodingKeys: String, CodingKey {
            case config = "Config"
            case tags = "RepoTags"
            case layers = "Layers"
        }
    }

    /// Reads a document.
    static func decode<Document: Decodable>(_: Document.Type, _ bytes: [UInt8], _ what: String) throws(ImportRefusal) -> Document {
        guard bytes.count <= ImportLimits.documentBytesMax else { throw ImportRefusal("\(what) is longer than a document may be") }
        do { return try JSONDecoder().decode(Document.self, from: Data(bytes)) } catch let error as DecodingError {
            throw ImportRefusal("\(what) is not as the specification has it: \(reason(error))")
        } catch { throw ImportRefusal("\(what) is not JSON") }
    }

    private static func reason(_ error: DecodingError) -> String {
        func place(_ context: DecodingError.Context) -> String {
            context.codingPath.isEmpty ? "" : " at \(quoted(context.codingPath.map(\.stringValue).joined(separator: ".")))"
        }
        return switch error {
        case .keyNotFound(let key, let context): "\(quoted(key.stringValue)) is missing\(place(context))"
        case .typeMismatch(_, let context): "something of another type\(place(context))"
        case .valueNotFound(_, let context): "nothing\(place(context))"
        case .dataCorrupted(let context): context.codingPath.isEmpty ? "no JSON" : "\(context.debugDescription)\(place(context))"
        @unknown default: "it cannot be read"
        }
    }
}

/// How a layer is stored.
enum LayerCompression: Equatable {
    case none, gzip, zstd

    /// By the media type of a manifest.
    init(mediaType: String) throws(ImportRefusal) {
        switch mediaType {
        case "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar": self = .none
        case "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip": self = .gzip
        case "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd": self = .zstd
        default: throw ImportRefusal("it has a layer of a type that is not supported: \(quoted(mediaType))")
        }
    }

    /// By the first bytes, where nothing else says it.
    init(head: [UInt8]) {
        self = head.starts(with: [0x1f, 0x8b]) ? .gzip : head.starts(with: [0x28, 0xb5, 0x2f, 0xfd]) ? .zstd : .none
    }

    /// The program that unpacks standard input to standard output, and its package.
    var command: [String] {
        switch self {
        case .none: []
        case .gzip: ["gzip", "-dc"]
        case .zstd: ["zstd", "-dcq"]
        }
    }
}

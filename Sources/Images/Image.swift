internal import CLinux
internal import Linux

/// What `images/NAME/manifest.json` says.
public struct ImageManifest: Codable, Hashable, Sendable {
    static let kind = "aurora-image"
    static let schema = 1

    var kind = Self.kind
    var schema = Self.schema
    /// The image's name.
    public let name: String
    /// What was asked for, in order; empty for `base`.
    public let requestedPackages: [String]
    /// Everything that is installed, with exact versions.
    public let packages: [InstalledPackage]
    /// The Debian version of the kernel that was prepared when the image was built, if any.
    public let kernelVersion: String?
    /// The virtual size of `root.ext4` in bytes.
    public let rootSize: Int
    /// What `root.ext4` took on the disk when it was built, in bytes.
    public let rootAllocated: Int
    /// A SHA-256 of `root.ext4`, hexadecimal: of what `rootDigestForm` says.
    public let rootSHA256: String
    /// Changes when the recipe or what was asked for changes.
    public let inputDigest: String
    /// When it was built, ISO 8601 in UTC.
    public let createdAt: String
    /// What is hashed: `aurora-disk-1`, the data without the holes (docs/images.md); nil for the whole file, as older versions have it.
    public var rootDigestForm: String?
    /// What was asked for of pip, in order; nil when nothing was.
    public var requestedPip: [String]?
    /// Every Python package that pip installed, with exact versions.
    public var pipPackages: [InstalledPackage]?
    /// How its program is run when a command says nothing else; nil for images of packages.
    public var process: ProcessDefaults?
    /// Where it came from; nil for images of packages.
    public var source: ImageSource?
}

/// Where an image came from that was not built of packages.
public struct ImageSource: Codable, Hashable, Sendable {
    /// `oci`, `oci-archive`, `docker-archive`, or `commit`.
    public let kind: String
    /// What the command named.
    public let reference: String
    /// Of the foreign manifest or configuration, with the hash function's name.
    public let digest: String
    /// The digests of the uncompressed layers, lowest first.
    public var layers: [String] = []
    /// When its maker made it, as it was written there.
    public var created: String?
    /// What was left out, in words.
    public var notes: [String] = []

    /// Describes where an image came from.
    public init(kind: String, reference: String, digest: String, layers: [String] = [], created: String? = nil) {
        self.kind = kind
        self.reference = reference
        self.digest = digest
        self.layers = layers
        self.created = created
    }
}

/// An image that has been built and checked.
public struct Image: Sendable {
    /// Its name.
    public let name: ImageName
    /// What it is.
    public let manifest: ImageManifest
    /// Its directory.
    public let path: String
    /// The raw ext4 root file system; to be opened read-only, as groups share it.
    public var rootPath: String { "\(path)/root.ext4" }

    /// What the root file takes on the disk now, in bytes; zero when it has gone meanwhile.
    public var diskBytes: Int { (try? Files.size(rootPath).allocated) ?? 0 }

    /// Opens an image.
    ///
    /// - Throws: `ImageError.corrupt` when manifest and files do not agree.
    init(opening path: String, name: ImageName) throws(ImageError) {
        self.path = path
        self.name = name
        Files.makePrivate([path, "\(path)/\(Manifest.fileName)", "\(path)/root.ext4"])
        do throws(UnusableManifest) {
            manifest = try Manifest.read(ImageManifest.self, kind: ImageManifest.kind, schema: ImageManifest.schema, from: path)
            try Self.check(manifest, path: path, name: name)
        } catch {
            throw .corrupt(what: "image \(name)", path: path, reason: error.reason, remedy: Self.remedy(name))
        }
    }

    private static func remedy(_ name: ImageName) -> String {
        name == .base ? "aurora image prepare" : "aurora image build \(name) --packages ..."
    }

    private static func check(_ manifest: ImageManifest, path: String, name: ImageName) throws(UnusableManifest) {
        guard manifest.name == name.description else { throw UnusableManifest(reason: "its manifest is of another image") }
        guard Manifest.isSHA256(manifest.rootSHA256), manifest.rootSize > 0, manifest.rootAllocated >= 0 else {
            throw UnusableManifest(reason: "its manifest has an impossible size or digest")
        }
        guard let size = try? Files.size("\(path)/root.ext4").bytes else { throw UnusableManifest(reason: "root.ext4 is missing") }
        guard size == manifest.rootSize else {
            throw UnusableManifest(reason: "root.ext4 has \(size) bytes, its manifest says \(manifest.rootSize)")
        }
    }

    /// Gives a group a name of its own for the root file, so that a rebuild or removal of the image cannot pull it away.
    ///
    /// - Throws: `ImageError.system`, for example when `target` is on another file system.
    public func link(to target: String) throws(ImageError) {
        guard CLinux.link(rootPath, target) == 0 else {
            throw .system(SystemError("link image \(name) to", target, errno: Errno(rawValue: clinux_errno())))
        }
    }
}

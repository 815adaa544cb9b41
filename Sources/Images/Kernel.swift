/// What `kernel/VERSION/manifest.json` says.
public struct KernelManifest: Codable, Hashable, Sendable {
    static let kind = "aurora-kernel"
    static let schema = 1

    var kind = Self.kind
    var schema = Self.schema
    /// The kernel's release, for example "6.1.0-56-cloud-amd64".
    public let release: String
    /// The Debian version of its package, which is also the directory's name.
    public let version: String
    /// The packages it was made from.
    public let packages: [InstalledPackage]
    /// The size of `vmlinux` in bytes.
    public let vmlinuxSize: Int
    /// The SHA-256 of `vmlinux`, hexadecimal.
    public let vmlinuxSHA256: String
    /// The modules every guest loads, file names in load order.
    public let modules: [String]
    /// The modules that are loaded when somebody asks for them, in load order.
    public let extraModules: [String]
    /// Changes when the recipe changes.
    public let inputDigest: String
    /// When it was made, ISO 8601 in UTC.
    public let createdAt: String
}

/// A kernel that has been prepared and checked.
public struct Kernel: Sendable {
    /// What it is.
    public let manifest: KernelManifest
    /// Its directory.
    public let path: String
    /// The uncompressed ELF kernel.
    public var vmlinuxPath: String { "\(path)/vmlinux" }
    /// The directory of `list`, `extra` and the modules.
    public var modulesPath: String { "\(path)/modules" }

    /// Opens a prepared kernel.
    ///
    /// - Throws: `ImageError.corrupt` when manifest and files do not agree.
    init(opening path: String) throws(ImageError) {
        self.path = path
        // `current` is a link to it.
        Files.makePrivate(["\(path)/."])
        do throws(UnusableManifest) {
            manifest = try Manifest.read(KernelManifest.self, kind: KernelManifest.kind, schema: KernelManifest.schema, from: path)
            try Self.check(manifest, path: path)
        } catch {
            throw .corrupt(what: "kernel", path: path, reason: error.reason, remedy: "aurora image prepare")
        }
    }

    private static func check(_ manifest: KernelManifest, path: String) throws(UnusableManifest) {
        guard let size = try? Files.size("\(path)/vmlinux").bytes else { throw UnusableManifest(reason: "vmlinux is missing") }
        guard size == manifest.vmlinuxSize else {
            throw UnusableManifest(reason: "vmlinux has \(size) bytes, its manifest says \(manifest.vmlinuxSize)")
        }
        for module in manifest.modules + manifest.extraModules {
            guard Manifest.isFileName(module), Files.exists("\(path)/modules/\(module)") else {
                throw UnusableManifest(reason: "a module its manifest names is missing")
            }
        }
    }
}

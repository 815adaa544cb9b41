/// The scripts and sources of `images/` that build kernels and images; they travel inside the program.
public struct Recipes: Sendable {
    /// Paths below `images/` and contents.
    let files: [String: [UInt8]]

    /// The recipes this program was built with.
    public static let embedded = Recipes(files: [
        "apt.sh": PackageResources.apt_sh,
        "kernel/fetch.sh": PackageResources.fetch_sh,
        "kernel/modules.sh": PackageResources.modules_sh,
        "module/build-module.sh": PackageResources.build_module_sh,
        "module/aurora.c": PackageResources.aurora_c,
        "module/limits.h": PackageResources.limits_h,
        "module/Kbuild": PackageResources.Kbuild,
        "base/build-image.sh": PackageResources.build_image_sh,
        "import/make-root.sh": PackageResources.make_root_sh,
        "confined.sh": PackageResources.confined_sh,
    ])

    /// The scripts of a kernel, of an image of packages, and of an imported one; a change to one must not rebuild the others.
    enum Product: String {
        case kernel, image, imported

        /// What a script makes, by its directory.
        fileprivate init(directory: Substring?) {
            switch directory {
            case "base": self = .image
            case "import", "confined.sh": self = .imported
            default: self = .kernel
            }
        }
    }

    /// A short text that changes when the recipe or the parameters change.
    ///
    /// It is 64-bit FNV-1a: a detector of changes made by people, not a protection against forgery.
    func digest(_ product: Product, parameters: [String]) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ bytes: some Sequence<UInt8>) {
            for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            hash = (hash ^ 0xff) &* 0x100_0000_01b3
        }
        let used = files.filter { $0.key == "apt.sh" || Product(directory: $0.key.split(separator: "/").first) == product }
        for (path, contents) in used.sorted(by: { $0.key < $1.key }) {
            add(path.utf8)
            add(contents)
        }
        for parameter in parameters { add(parameter.utf8) }
        return String(repeating: "0", count: hash.leadingZeroBitCount / 4) + (hash == 0 ? "" : String(hash, radix: 16))
    }

    /// Writes the files below a directory, where the scripts can run.
    func write(to directory: String) throws(ImageError) {
        for (path, contents) in files {
            let target = "\(directory)/\(path)"
            try Files.makeDirectory(String(target[..<(target.lastIndex(of: "/") ?? target.endIndex)]))
            try Files.write(contents, to: target, mode: 0o700)
        }
    }
}

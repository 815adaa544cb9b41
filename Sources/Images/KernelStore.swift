internal import CLinux
internal import Linux

/// The kernels below `kernel/` of the data directory; `kernel/current` is the one guests boot.
public struct KernelStore: Sendable {
    /// When a kernel that is there is good enough.
    public enum Freshness: Sendable {
        /// As long as the recipe is the one it was made with.
        case present
        /// Only if apt knows no newer one either.
        case newest
    }

    let directory: String
    private let logs: String
    private let recipes: Recipes

    /// The kernels of a data directory.
    public init(dataPath: String, recipes: Recipes = .embedded) {
        directory = "\(dataPath)/kernel"
        logs = "\(dataPath)/logs"
        self.recipes = recipes
    }

    private var currentLink: String { "\(directory)/current" }
    static let name = "kernel"

    /// The kernel guests boot.
    ///
    /// - Throws: `ImageError.noKernel`, or `.corrupt` when it is there but damaged.
    public func current() throws(ImageError) -> Kernel {
        guard Files.exists(currentLink) else { throw .noKernel }
        return try Kernel(opening: currentLink)
    }

    /// Makes sure there is a kernel, building it when it is absent, damaged or made by another recipe.
    ///
    /// - Throws: `ImageError`; the former kernel, if any, is then still in place.
    public func ensure(_ freshness: Freshness = .present, progress: @escaping BuildProgress) throws(ImageError) -> Kernel {
        let digest = recipes.digest(.kernel, parameters: [])
        UnfinishedBuilds.removeLeft(in: directory)
        if freshness == .present, let kernel = usable(digest: digest) { return kernel }
        try Files.makeDirectory(directory)
        let lockPath = BuildArea.lockPath(name: Self.name, parent: directory)
        let acquired = try BuildLock.acquire(lockPath) {
            progress(.step("waiting for another build of the kernel"))
            return true
        }
        guard let (lock, waited) = acquired else { throw .beingBuilt(Self.name) }
        // Whoever was waited for has just built the newest one.
        if freshness == .present || waited, let kernel = usable(digest: digest) { return kernel }
        let area = try BuildArea(
            what: "the kernel", name: Self.name, parent: directory, logs: logs, lock: lock, recipes: recipes, progress: progress)
        defer { area.abandon() }
        do {
            if freshness == .newest, let kernel = usable(digest: digest), isNewest(kernel, in: area) { return kernel }
            return try build(in: area, digest: digest, progress: progress)
        } catch { throw area.explained(error) }
    }

    private func usable(digest: String) -> Kernel? {
        guard let kernel = try? current(), kernel.manifest.inputDigest == digest else { return nil }
        return kernel
    }

    /// A host that cannot ask (no package lists, no apt) keeps the kernel it has.
    private func isNewest(_ kernel: Kernel, in area: BuildArea) -> Bool {
        let output = "\(area.directory)/resolved"
        guard (try? area.runRecipe("kernel/fetch.sh", ["resolve"], output: output)) != nil,
            let bytes = try? Files.read(output, lengthMax: Manifest.lengthMax)
        else { return true }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("release ") }
        return InstalledPackage.parse(lines.joined(separator: "\n")) == kernel.manifest.packages
    }

    private func build(in area: BuildArea, digest: String, progress: @escaping BuildProgress) throws(ImageError) -> Kernel {
        let work = "\(area.directory)/work"
        progress(.step("downloading Debian's kernel"))
        try area.runRecipe("kernel/fetch.sh", ["fetch", work], isWatched: true)
        let release = try firstLine("\(work)/release")
        let packages = InstalledPackage.parse(try text("\(work)/packages"))
        guard let version = packages.first?.version, Manifest.isFileName(release), Manifest.isFileName(version) else {
            throw .recipeFailed(what: area.what, message: "the downloaded packages have no usable version", log: area.log)
        }
        let modules = "\(area.result)/modules"
        progress(.step("unpacking kernel \(release)"))
        try KernelExtractor(area: area).extract("\(work)/root/boot/vmlinuz-\(release)", to: "\(area.result)/vmlinux")
        try area.runRecipe("kernel/modules.sh", ["\(work)/root", release, modules])
        progress(.step("building the device module"))
        try area.runRecipe(
            "module/build-module.sh", ["\(work)/root", release, "\(area.directory)/recipes/module", "\(modules)/aurora.ko"])
        // Last: its devices are then probed at once and in order, by drivers that are there.
        try Files.write(Array("\(try text("\(modules)/list"))aurora.ko\n".utf8), to: "\(modules)/list")

        let manifest = KernelManifest(
            release: release, version: version, packages: packages, vmlinuxSize: try Files.size("\(area.result)/vmlinux").bytes,
            vmlinuxSHA256: try digestOfKernel(in: area), modules: try lines("\(modules)/list"), extraModules: try lines("\(modules)/extra"),
            inputDigest: digest, createdAt: Manifest.now())
        try Manifest.write(manifest, to: area.result)
        try area.publish(as: "\(directory)/\(version)")
        try makeCurrent(version)
        return try current()
    }

    private func digestOfKernel(in area: BuildArea) throws(ImageError) -> String {
        let output = "\(area.directory)/sha256"
        try area.run(["sha256sum", "\(area.result)/vmlinux"], output: output)
        return String(try firstLine(output).prefix { $0 != " " })
    }

    /// Moves the link in one step: a guest that boots meanwhile sees the old kernel or the new one.
    private func makeCurrent(_ version: String) throws(ImageError) {
        let link = "\(directory)/.current"
        try Files.removeTree(link)
        guard symlink(version, link) == 0, rename(link, currentLink) == 0 else {
            throw .system(SystemError("change", currentLink, errno: Errno(rawValue: clinux_errno())))
        }
        try Files.sync(directory)
    }

    private func text(_ path: String) throws(ImageError) -> String {
        String(decoding: try Files.read(path, lengthMax: Manifest.lengthMax), as: UTF8.self)
    }

    private func lines(_ path: String) throws(ImageError) -> [String] { try text(path).split(separator: "\n").map(String.init) }

    private func firstLine(_ path: String) throws(ImageError) -> String { try lines(path).first ?? "" }
}

internal import FoundationEssentials
internal import Linux

/// The images below `images/` of the data directory: built, listed, opened, removed.
///
/// Safe for many processes at once.
public struct ImageStore: Sendable {
    let dataPath: String
    let directory: String
    let recipes: Recipes

    /// The images of a data directory.
    public init(dataPath: String, recipes: Recipes = .embedded) {
        self.dataPath = dataPath
        directory = "\(dataPath)/images"
        self.recipes = recipes
    }

    func path(_ name: ImageName) -> String { "\(directory)/\(name)" }

    /// Opens an image.
    ///
    /// - Throws: `ImageError.notFound` or `.corrupt`.
    public func open(_ name: ImageName) throws(ImageError) -> Image {
        guard Files.exists(path(name)) else { throw .notFound(name.description) }
        return try Image(opening: path(name), name: name)
    }

    /// An image as a listing shows it: opened, or why it cannot be.
    public struct Entry: Sendable {
        /// Its name.
        public let name: ImageName
        /// The image, or what is wrong with it.
        public let image: Result<Image, ImageError>
    }

    /// All images, by name; a damaged one does not hide the others.
    ///
    /// - Throws: `ImageError.system` when the directory cannot be read.
    public func list() throws(ImageError) -> [Entry] {
        Files.makePrivate([directory])
        return try Files.names(in: directory).compactMap { text in
            guard let name = try? ImageName(text) else { return nil }
            do throws(ImageError) { return Entry(name: name, image: .success(try open(name))) } catch {
                return Entry(name: name, image: .failure(error))
            }
        }
    }

    /// Removes what killed builds left; one that is under way stays.
    public func tidy() { UnfinishedBuilds.removeLeft(in: directory) }

    /// Makes sure there is a base image, building it when it is absent, damaged or made by another recipe.
    ///
    /// - Throws: `ImageError`; a former base image, if any, is then still in place.
    public func ensureBase(progress: @escaping BuildProgress) throws(ImageError) -> Image {
        try make(.base, packages: [], pip: [], size: .standard, labels: [:], refresh: false, progress: progress)
    }

    /// Builds an image of Debian packages, unless one is there that was built from the same inputs.
    ///
    /// - Parameters:
    ///   - labels: what is said of it to those who use it, as `ProcessDefaults.labels`.
    ///   - refresh: build in any case, for the archive's newer versions.
    /// - Throws: `ImageError`; a former image of the name, if any, is then still in place.
    public func build(
        _ name: ImageName, packages: [PackageRequest], pip: [PipRequest] = [], size: ImageSize = .standard, labels: [String: String] = [:],
        refresh: Bool = false, progress: @escaping BuildProgress
    ) throws(ImageError) -> Image {
        guard name != .base else { throw .reservedName(name.description) }
        return try make(name, packages: packages, pip: pip, size: size, labels: labels, refresh: refresh, progress: progress)
    }

    private func make(
        _ name: ImageName, packages: [PackageRequest], pip: [PipRequest], size: ImageSize, labels: [String: String], refresh: Bool,
        progress: @escaping BuildProgress
    ) throws(ImageError) -> Image {
        let wheels = pip.map(\.description)
        let requested = packages.map(\.description) + (wheels.isEmpty ? [] : ["--pip"] + wheels)
        let marks = labels.sorted { $0.key < $1.key }.flatMap { ["--label", "\($0.key)=\($0.value)"] }
        let digest = recipes.digest(.image, parameters: ["\(size.bytes)"] + requested + marks)
        func usable() -> Image? {
            guard let image = try? open(name), image.manifest.inputDigest == digest else { return nil }
            return image
        }
        let former = usable()
        if !refresh, let former { return former }
        try Files.makeDirectory(directory)
        tidy()
        let acquired = try BuildLock.acquire(BuildArea.lockPath(name: name.description, parent: directory)) {
            progress(.step("waiting for another build of image \(name)"))
            return true
        }
        guard let (lock, waited) = acquired else { throw .beingBuilt(name.description) }
        // Whoever was waited for may just have built the very thing.
        if waited || !refresh, let image = usable(), !refresh || image.manifest != former?.manifest { return image }
        let area = try BuildArea(
            what: "image \(name)", name: name.description, parent: directory, logs: "\(dataPath)/logs", lock: lock, recipes: recipes,
            progress: progress)
        defer { area.abandon() }
        let all = packages.map(\.description) + wheels
        progress(.step("installing \(all.isEmpty ? "a minimal Debian" : all.joined(separator: ", ")) into image \(name)"))
        do { return try fill(area, name: name, requested: requested, size: size, labels: labels, digest: digest) } catch {
            throw area.explained(error)
        }
    }

    private func fill(
        _ area: BuildArea, name: ImageName, requested: [String], size: ImageSize, labels: [String: String], digest: String
    ) throws(ImageError) -> Image {
        try area.runRecipe("base/build-image.sh", [area.result, "\(size.bytes)"] + requested, isWatched: true)
        func text(_ file: String) throws(ImageError) -> String {
            String(decoding: try Files.read("\(area.result)/\(file)", lengthMax: Manifest.lengthMax), as: UTF8.self)
        }
        let root = try Files.size("\(area.result)/root.ext4")
        let packages = requested.prefix { $0 != "--pip" }
        var manifest = ImageManifest(
            name: name.description, requestedPackages: Array(packages), packages: InstalledPackage.parse(try text("packages")),
            kernelVersion: try? KernelStore(dataPath: dataPath).current().manifest.version, rootSize: root.bytes,
            rootAllocated: root.allocated, rootSHA256: try area.diskDigest(of: "\(area.result)/root.ext4"), inputDigest: digest,
            createdAt: Manifest.now())
        manifest.rootDigestForm = DiskDigest.form
        if !labels.isEmpty {
            var process = ProcessDefaults()
            process.labels = labels
            manifest.process = process
        }
        if packages.count < requested.count {
            manifest.requestedPip = Array(requested.dropFirst(packages.count + 1))
            manifest.pipPackages = InstalledPackage.parse(try text("pip"))
        }
        for file in ["packages", "pip"] where Files.exists("\(area.result)/\(file)") {
            try Files.removeTree("\(area.result)/\(file)")
        }
        try Manifest.write(manifest, to: area.result)
        // The same checks a reader makes: what would not open is not published.
        _ = try Image(opening: area.result, name: name)
        try area.publish(as: path(name))
        return try open(name)
    }

    /// Takes the lock of a name, waiting for whoever has it, and enters a build.
    func buildArea(_ name: ImageName, _ progress: @escaping BuildProgress) throws(ImageError) -> BuildArea {
        try Files.makeDirectory(directory)
        tidy()
        let acquired = try BuildLock.acquire(BuildArea.lockPath(name: name.description, parent: directory)) {
            progress(.step("waiting for another build of image \(name)"))
            return true
        }
        guard let (lock, _) = acquired else { throw .beingBuilt(name.description) }
        return try BuildArea(
            what: "image \(name)", name: name.description, parent: directory, logs: "\(dataPath)/logs", lock: lock, recipes: recipes,
            progress: progress)
    }

    /// Publishes the finished `root.ext4` of a build that is not made of packages.
    func publish(
        _ area: BuildArea, name: ImageName, inputs: String, process: ProcessDefaults?, source: ImageSource
    ) throws(ImageError) -> Image {
        let path = "\(area.result)/root.ext4"
        let root = try Files.size(path)
        var manifest = ImageManifest(
            name: name.description, requestedPackages: [], packages: [],
            kernelVersion: try? KernelStore(dataPath: dataPath).current().manifest.version, rootSize: root.bytes,
            rootAllocated: root.allocated, rootSHA256: try area.diskDigest(of: path), inputDigest: inputs, createdAt: Manifest.now())
        manifest.rootDigestForm = DiskDigest.form
        manifest.process = process
        manifest.source = source
        try Manifest.write(manifest, to: area.result)
        _ = try Image(opening: area.result, name: name)
        try area.publish(as: self.path(name))
        return try open(name)
    }

    /// Removes an image.
    ///
    /// - Parameter force: even if groups use it; those that run keep it open until they end.
    /// - Throws: `ImageError.notFound`, `.inUse`, `.beingBuilt` or `.system`.
    public func remove(_ name: ImageName, force: Bool = false) throws(ImageError) {
        tidy()
        guard Files.exists(path(name)) else { throw .notFound(name.description) }
        let users = force ? [] : try users(of: name)
        guard users.isEmpty else { throw .inUse(name: name.description, users: users) }
        let lockPath = BuildArea.lockPath(name: name.description, parent: directory)
        guard let held = try BuildLock.acquire(lockPath, attempts: 25, onWait: { false }) else { throw .beingBuilt(name.description) }
        defer { withExtendedLifetime(held) {} }
        // Out of sight in one step first, so that nobody opens half an image.
        let trash = BuildArea.path(name: name.description, parent: directory)
        try Files.removeTree(trash)
        try Files.publish(path(name), as: trash)
        try Files.removeTree(trash)
    }

    private struct GroupConfiguration: Decodable {
        let image: String?
    }

    /// The part of a function's record that names images: the one that was asked for, and the one it was made from.
    private struct FunctionRecord: Decodable {
        struct Part: Decodable { let image: String? }
        let settings: Part?
        let deployed: Part?
    }

    /// The groups (by name, clones among them) and functions ("function NAME") that name an image.
    ///
    /// - Throws: `ImageError.system` when a directory cannot be read.
    public func users(of name: ImageName) throws(ImageError) -> [String] {
        let functions = try Files.names(in: "\(dataPath)/functions").filter { function in
            let path = "\(dataPath)/functions/\(function)/function.json"
            guard Manifest.isFileName(function), Files.exists(path) else { return false }
            guard let bytes = try? Files.read(path, lengthMax: Manifest.lengthMax),
                let record = try? JSONDecoder().decode(FunctionRecord.self, from: Data(bytes))
            else { return true }
            return [record.settings?.image, record.deployed?.image].contains(name.description)
        }
        return try groupsUsing(name) + functions.map { "function \($0)" }
    }

    /// The groups that name an image; one whose configuration cannot be read may use any, so it counts.
    private func groupsUsing(_ name: ImageName) throws(ImageError) -> [String] {
        try Files.names(in: "\(dataPath)/groups").filter { group in
            let path = "\(dataPath)/groups/\(group)/config.json"
            guard Manifest.isFileName(group), Files.exists(path) else { return false }
            guard let bytes = try? Files.read(path, lengthMax: Manifest.lengthMax),
                let configuration = try? JSONDecoder().decode(GroupConfiguration.self, from: Data(bytes))
            else { return true }
            return (configuration.image ?? ImageName.base.description) == name.description
        }
    }
}

import ArgumentParser
import FoundationEssentials
import Groups
import Images
import Linux

/// `aurora image`: the root file systems groups start from.
struct ImageCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Build, import, list and remove images: the root file systems groups start from.",
        subcommands: [
            ImagePrepareCommand.self, ImageBuildCommand.self, ImageImportCommand.self, ImageCommitCommand.self, ImageListCommand.self,
            ImageInspectCommand.self, ImageRemoveCommand.self, ImagePruneCommand.self,
        ])

    /// The data directory of this process's user and environment.
    static var dataPath: String { CommandContext.data.path }
    static var images: ImageStore { ImageStore(dataPath: dataPath) }
    static var kernels: KernelStore { KernelStore(dataPath: dataPath) }

    /// A size as all commands write it.
    static func readable(_ bytes: Int) -> String { MemorySize.format(bytes) }

    /// Standard JSON of Aurora's commands: keys sorted, slashes as they are.
    static func json(_ value: some Encodable) throws -> String { try CommandContext.json(value) }
}

/// An image as `ls --format json` and `inspect` show it.
struct ImageDescription: Encodable {
    let name: String
    let path: String?
    let manifest: ImageManifest?
    let diskBytes: Int?
    let error: String?

    init(_ image: Image) { self.init(name: image.name.description, path: image.path, manifest: image.manifest, diskBytes: image.diskBytes) }

    init(_ entry: ImageStore.Entry) {
        switch entry.image {
        case .success(let image): self.init(image)
        case .failure(let failure): self.init(name: entry.name.description, error: failure.description)
        }
    }

    private init(name: String, path: String? = nil, manifest: ImageManifest? = nil, diskBytes: Int? = nil, error: String? = nil) {
        self.name = name
        self.path = path
        self.manifest = manifest
        self.diskBytes = diskBytes
        self.error = error
    }
}

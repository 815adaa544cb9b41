public import Linux

/// Why a kernel or an image could not be built, opened or removed.
///
/// The text says what to do.
public enum ImageError: Error, Sendable, CustomStringConvertible {
    /// A name that is not `[a-z0-9][a-z0-9._-]{0,62}`.
    case invalidName(String)
    /// A name that Aurora keeps for an image of its own.
    case reservedName(String)
    /// Text that is not the name of a Debian package, optionally with `=VERSION`.
    case invalidPackage(String)
    /// A size that is not a number with a unit, or out of the range an image may have.
    case invalidSize(String)
    /// No image of this name.
    case notFound(String)
    /// No kernel has been prepared.
    case noKernel
    /// A cached kernel or image whose files do not agree; `remedy` is a command.
    case corrupt(what: String, path: String, reason: String, remedy: String)
    /// An image that groups or functions still use.
    case inUse(name: String, users: [String])
    /// An image that another process is building at this moment.
    case beingBuilt(String)
    /// A recipe gave up; `message` is what it said last.
    case recipeFailed(what: String, message: String, log: String)
    /// The disk was full; nothing half-made is left.
    case diskFull(what: String, path: String)
    /// The kernel's boot image could not be unpacked.
    case bootImage(path: String, BootImageError)
    /// Text that does not say where a foreign image is.
    case invalidReference(String)
    /// A foreign image that is damaged, hostile, too large or of a kind that is not supported.
    case importRefused(reference: String, reason: String)
    /// No name was given for an imported image, and none can be made of where it comes from.
    case nameNeeded(String)
    /// Owners of files cannot be kept by this user.
    case ownersNeeded
    /// A system call failed.
    case system(SystemError)

    /// "Cannot ...: why. What to do."
    public var description: String {
        switch self {
        case .invalidName(let name):
            "Cannot use \(quoted(name)) as an image name: it must be 1 to \(ImageName.lengthMax) of a-z 0-9 . _ - "
                + "and start with a-z or 0-9"
        case .reservedName(let name):
            "Cannot build an image named \(name): the name is reserved for the image that `aurora image prepare` makes; choose another"
        case .invalidPackage(let text):
            "Cannot install \(quoted(text)): it is not the name of a Debian package (a-z 0-9 + . -, optionally =VERSION)"
        case .invalidSize(let text):
            "Cannot make an image of size \(quoted(text)): give a number with K, M, G or T "
                + "between \(ImageSize.minimumText) and \(ImageSize.maximumText)"
        case .notFound(ImageName.base.description): "The base image has not been prepared: run `aurora image prepare`"
        case .notFound(let name):
            "No image named \(name): `aurora image ls` shows what there is, `aurora image build \(name) --packages ...` "
                + "or `aurora image import` makes it"
        case .noKernel: "No kernel has been prepared: run `aurora image prepare`"
        case .corrupt(let what, let path, let reason, let remedy): "Cannot use \(what) in \(path): \(reason). Run `\(remedy)`"
        case .inUse(let name, let users):
            "Cannot remove image \(name): used by \(users.joined(separator: ", ")); "
                + "remove them first (`aurora rm`, `aurora fn rm`) or give --force"
        case .beingBuilt(let name): "Cannot remove image \(name): it is being built at this moment; try again when the build has ended"
        case .recipeFailed(let what, let message, let log): "Cannot build \(what): \(message). The whole story is in \(log)"
        case .diskFull(let what, let path): "Cannot build \(what): no space left on the disk of \(path). Nothing half-made was left there"
        case .bootImage(let path, let error): "Cannot unpack the kernel \(path): \(error)"
        case .invalidReference(let text):
            "Cannot import \(quoted(text)): write oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REFERENCE]"
        case .importRefused(let reference, let reason): "Cannot import \(quoted(reference)): \(reason). Nothing was left behind"
        case .nameNeeded(let text): "Cannot make a name for the image out of \(quoted(text)): write one after it"
        case .ownersNeeded: "Cannot keep the owners of an image's files: run as root, or install fakeroot (apt-get install fakeroot)"
        case .system(let error): error.description
        }
    }
}

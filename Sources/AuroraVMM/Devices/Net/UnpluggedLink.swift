internal import CLinux
import Linux

/// The end of a cable that leads nowhere: what is sent is lost, and nothing comes.
final class UnpluggedLink: FrameLink {
    private let file: OwnedDescriptor
    var descriptor: Int32 { file.rawValue }

    /// - Throws: `SystemError` when there is no /dev/null.
    init() throws(SystemError) { file = try .open("/dev/null", O_RDWR) }

    func setOffloads(_ bits: UInt32) throws(SystemError) {}
}

import CLinux
import Testing

@testable import Images

/// What is made is for its owner alone, and what older versions left open is closed.
@Suite struct PrivacyTests {
    private func permissions(_ path: String) throws -> UInt32 {
        var status = stat()
        guard lstat(path, &status) == 0 else { throw ImportRefusal("\(path) is missing") }
        return status.st_mode & 0o777
    }

    @Test func imagesAreOfTheirOwnerAlone() throws {
        let fixture = try Fixture()
        let image = try fixture.images("umask 0\n" + Fixture.goodImage + "chmod 666 \"$1/root.ext4\"\n").ensureBase(progress: silent)
        let directories = [image.path, "\(fixture.path)/images", "\(fixture.path)/logs"]
        for path in directories { #expect(try permissions(path) == 0o700, "\(path)") }
        for path in [image.rootPath, "\(image.path)/manifest.json", "\(fixture.path)/logs/base.log", "\(fixture.path)/images/.lock-base"] {
            #expect(try permissions(path) == 0o600, "\(path)")
        }
    }

    @Test func committedImagesAreToo() throws {
        let fixture = try Fixture()
        var whenChecked: UInt32?
        let image = try fixture.images().commit(
            try ImageName("a"), bytes: 8192, source: ImageSource(kind: "commit", reference: "r", digest: "d"), process: ProcessDefaults(),
            progress: silent, fill: { _ in }, check: { whenChecked = try permissions($0) })
        #expect(whenChecked == 0o600)
        #expect(try permissions(image.path) == 0o700 && permissions(image.rootPath) == 0o600)
    }

    @Test func kernelsAreToo() throws {
        let fixture = try Fixture()
        let kernel = try fixture.kernels().ensure(progress: silent)
        #expect(try permissions("\(fixture.path)/kernel/\(kernel.manifest.version)") == 0o700)
        #expect(try permissions(kernel.vmlinuxPath) == 0o600)
    }

    @Test func openingClosesWhatOlderVersionsLeftOpen() throws {
        let fixture = try Fixture()
        let store = fixture.images()
        let image = try store.ensureBase(progress: silent)
        let outside = "\(fixture.path)/outside"
        try Files.write([], to: outside)
        for path in ["\(fixture.path)/images", image.path] { #expect(chmod(path, 0o755) == 0) }
        for path in [image.rootPath, "\(image.path)/manifest.json", outside] { #expect(chmod(path, 0o644) == 0) }
        // A link is not followed: what it leads to may be anybody's.
        #expect(symlink(outside, "\(fixture.path)/images/link") == 0)
        _ = try store.list()
        #expect(try permissions("\(fixture.path)/images") == 0o700 && permissions(image.path) == 0o700)
        #expect(try permissions(image.rootPath) == 0o600 && permissions("\(image.path)/manifest.json") == 0o600)
        #expect(try permissions(outside) == 0o644)
    }
}

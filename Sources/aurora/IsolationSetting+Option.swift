public import ArgumentParser
public import Groups
import Images

extension IsolationSetting: ExpressibleByArgument {}

extension IsolationSetting {
    /// What an image says; nil when it says nothing.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) for a word that there is not: it would be the weaker one silently.
    init?(ofImage image: String, _ defaults: ProcessDefaults) throws(GroupError) {
        guard let text = defaults.labels[IsolationSetting.label] else { return nil }
        guard let setting = IsolationSetting(rawValue: text) else {
            throw GroupError(
                .invalidValue,
                "Image \(image) has the label \(IsolationSetting.label) with a value that there is not: \"\(text.prefix(40))\"",
                remedy: "Choose with --isolation shared or --isolation strict.")
        }
        self = setting
    }
}

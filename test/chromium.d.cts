export declare const CHROMIUM: string | undefined;
